import {
  API_VERSION,
  type Backend,
  type DType,
  dtypeLayout,
  type FusedOps,
  InvalidArgumentError,
} from "@mamba-ts/backend";
import { binary, compare, where } from "./binary.js";
import { cast, fill } from "./cast.js";
import { causalConv1d } from "./fused/causal-conv1d.js";
import { fft } from "./fused/fft.js";
import { gatedOutput } from "./fused/gated-output.js";
import { adamw, kvAppend } from "./fused/in-place.js";
import { linear } from "./fused/linear.js";
import { linearCrossEntropy } from "./fused/linear-cross-entropy.js";
import { layerNorm, rmsNorm } from "./fused/norm.js";
import { sample } from "./fused/sample.js";
import { selectiveScan } from "./fused/selective-scan.js";
import { gather, scatterAdd } from "./gather.js";
import { linearScan } from "./linear-scan.js";
import { matmul } from "./matmul.js";
import { argReduce, reduce } from "./reduce.js";
import { concat, copy, pad } from "./shape.js";
import { byteLengthOf, CpuMemory } from "./storage.js";
import { unary } from "./unary.js";

export interface CpuBackendOptions {
  /** Replaces the fused ops; `{}` leaves every operation to its composition. */
  readonly fused?: FusedOps;
  /** Buffers larger than this are refused with OutOfMemoryError. 2^32 by default. */
  readonly maxBufferBytes?: number;
  /** Fills every new buffer with NaN first: shows operations that do not write all of their result. For tests. */
  readonly poison?: boolean;
}

/** `createBackend` without the promise: this backend has nothing to wait for. */
export function createCpuBackend({ fused, maxBufferBytes = 2 ** 32, poison = false }: CpuBackendOptions = {}): Backend {
  if (!(maxBufferBytes > 0))
    throw new InvalidArgumentError(`createBackend: maxBufferBytes is ${maxBufferBytes}, not positive`);
  const memory = new CpuMemory({ maxBufferBytes, poison });
  const bytesPer = (dtype: DType): number => dtypeLayout[dtype].bytes;
  return {
    name: "cpu",
    apiVersion: API_VERSION,
    device: deviceName(),
    dtypes: new Set<DType>(["float32", "float64", "bf16", "f16", "int32", "q8_0"]),
    preferredWeightDtype: "float32",
    limits: { maxBufferBytes },
    fused: fused ?? fusedOps(memory),
    memory: () => memory.use,

    alloc: (count, dtype) => memory.alloc(count, dtype),
    upload(data, dtype) {
      const { elements, bytes } = dtypeLayout[dtype];
      const buf = memory.alloc((data.byteLength / bytes) * elements, dtype);
      bytesOf(buf.words).set(bytesOf(data));
      return buf;
    },
    write(buf, data, start = 0) {
      const own = memory.own(buf);
      const at = byteLengthOf(start, own.dtype);
      const bytes = bytesOf(own.words);
      if (at + data.byteLength > bytes.length)
        throw new InvalidArgumentError(
          `cpu: writing ${data.byteLength} bytes at element ${start} of ${own.count} ${own.dtype}`,
        );
      bytes.set(bytesOf(data), at);
    },
    async read(buf, start = 0, count = buf.count - start) {
      const own = memory.own(buf);
      if (start < 0 || count < 0 || start + count > own.count)
        throw new InvalidArgumentError(`cpu: reading ${count} elements from ${start} on of ${own.count}`);
      const at = byteLengthOf(start, own.dtype);
      return bytesOf(own.words).slice(at, at + (count / dtypeLayout[own.dtype].elements) * bytesPer(own.dtype))
        .buffer as ArrayBuffer;
    },
    free: (buf) => memory.free(buf),
    async synchronize() {},

    fill: (shape, value, dtype) => fill(memory, shape, value, dtype),
    copy: (view) => copy(memory, view),
    cast: (x, to) => cast(memory, x, to),
    unary: (op, x) => unary(memory, op, x),
    binary: (op, a, b) => binary(memory, op, a, b),
    compare: (op, a, b) => compare(memory, op, a, b),
    where: (cond, a, b) => where(memory, cond, a, b),
    reduce: (op, x, axis) => reduce(memory, op, x, axis),
    argReduce: (op, x, axis) => argReduce(memory, op, x, axis),
    matmul: (a, b, options) => matmul(memory, a, b, options),
    gather: (x, indices, axis) => gather(memory, x, indices, axis),
    scatterAdd: (shape, indices, updates, axis) => scatterAdd(memory, shape, indices, updates, axis),
    pad: (x, axis, before, after) => pad(memory, x, axis, before, after),
    concat: (xs, axis) => concat(memory, xs, axis),
    linearScan: (a, b, axis, reverse) => linearScan(memory, a, b, axis, reverse),
    [Symbol.dispose]: () => memory.dispose(),
  };
}

function fusedOps(memory: CpuMemory): FusedOps {
  return {
    selectiveScan: selectiveScan(memory),
    causalConv1d: causalConv1d(memory),
    gatedOutput: gatedOutput(memory),
    rmsNorm: rmsNorm(memory),
    layerNorm: layerNorm(memory),
    fft: fft(memory),
    linear: linear(memory),
    linearCrossEntropy: linearCrossEntropy(memory),
    adamw: adamw(memory),
    kvAppend: kvAppend(memory),
    sample: sample(memory),
  };
}

/**
 * The backend that needs nothing: plain TypeScript on one thread, in Node and in browsers. It defines what every operation means, also
 * in float64, and is fast enough to train models of a few hundred thousand parameters.
 */
export async function createBackend(options?: CpuBackendOptions): Promise<Backend> {
  return createCpuBackend(options);
}

function bytesOf(view: ArrayBufferView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

function deviceName(): string {
  const version = (globalThis as { process?: { version?: string } }).process?.version;
  const engine = version === undefined ? (globalThis.navigator?.userAgent ?? "JavaScript") : `Node ${version}`;
  return `${engine}, plain TypeScript, one thread`;
}
