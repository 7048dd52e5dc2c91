/** Other libraries' matrix products in WebAssembly, on one thread. */
import { createRequire } from "node:module";
import { dirname } from "node:path";
import type { Subject } from "./harness.js";

interface Jax {
  init(device: "wasm"): Promise<unknown>;
  defaultDevice(device: "wasm"): void;
  readonly numpy: {
    array(data: Float32Array): { reshape(shape: number[]): JaxArray };
    matmul(a: JaxArray, b: JaxArray): JaxArray;
  };
}
interface JaxArray {
  /** Operations consume what they are given; this is one more reference to it. */
  readonly ref: JaxArray;
  data(): Promise<Float32Array>;
}

interface TfTensor {
  data(): Promise<Float32Array>;
  dispose(): void;
}
interface TfCore {
  setBackend(name: string): Promise<boolean>;
  tensor2d(data: Float32Array, shape: [number, number]): TfTensor;
  matMul(a: TfTensor, b: TfTensor): TfTensor;
}
interface TfWasm {
  setWasmPaths(folder: string): void;
  setThreadsCount(count: number): void;
}

/** @param a, b - [n, n]. Each side's result is read back, as ours is. */
export async function matmulPeers(a: Float32Array, b: Float32Array, n: number): Promise<Subject[]> {
  return [await tensorflow(a, b, n), await jax(a, b, n)];
}

async function tensorflow(a: Float32Array, b: Float32Array, n: number): Promise<Subject> {
  const name = "@tensorflow/tfjs-backend-wasm";
  const tf = (await import("@tensorflow/tfjs-core")) as unknown as TfCore;
  const wasm = (await import("@tensorflow/tfjs-backend-wasm")) as unknown as TfWasm;
  wasm.setWasmPaths(`${dirname(createRequire(import.meta.url).resolve(name))}/`);
  wasm.setThreadsCount(1);
  await tf.setBackend("wasm");
  const [x, y] = [tf.tensor2d(a, [n, n]), tf.tensor2d(b, [n, n])];
  const run = async (): Promise<void> => {
    const product = tf.matMul(x, y);
    await product.data();
    product.dispose();
  };
  return { name, run };
}

async function jax(a: Float32Array, b: Float32Array, n: number): Promise<Subject> {
  // It asks for `navigator`, which Node 20 does not have.
  if (globalThis.navigator === undefined)
    Object.defineProperty(globalThis, "navigator", { value: { userAgent: "Node" }, configurable: true });
  const library = (await import("@jax-js/jax")) as unknown as Jax;
  await library.init("wasm");
  library.defaultDevice("wasm");
  const { numpy } = library;
  const [x, y] = [numpy.array(a).reshape([n, n]), numpy.array(b).reshape([n, n])];
  return {
    name: "@jax-js/jax",
    run: () =>
      numpy
        .matmul(x.ref, y.ref)
        .data()
        .then(() => {}),
  };
}
