import type { Backend } from "@mamba-ts/backend";
import { relativeError } from "@mamba-ts/backend-testing";
import { type HostArray, type Rng, scope, type Tensor, tensor } from "@mamba-ts/tensor";

/** Host data of a benchmark, from which every side makes its tensors, in its own dtype. */
export interface Input {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** Numbers uniform in [low, high), the same for the same seed everywhere. */
export function uniformInput(rng: Rng, shape: readonly number[], low: number, high: number): Input {
  const size = shape.reduce((a, b) => a * b, 1);
  return { shape, data: Float32Array.from(rng.uniform(size), (u) => low + (high - low) * u) };
}

/** Tensors by the inputs' names. */
export function upload<K extends string>(
  backend: Backend,
  inputs: { readonly [N in K]: Input },
  dtype: "float32" | "float64" = "float32",
): { readonly [N in K]: Tensor } {
  const names = Object.keys(inputs) as K[];
  return Object.fromEntries(
    names.map((name) => [name, tensor(backend, inputs[name].data, inputs[name].shape, dtype)]),
  ) as { readonly [N in K]: Tensor };
}

/** Runs `fn` once and waits for the device; its tensors are freed. */
export async function once(backend: Backend, fn: () => unknown): Promise<void> {
  scope(() => {
    fn();
  });
  await backend.synchronize();
}

/** Reads tensors back to back as one array, and frees them. */
export async function readAll(tensors: readonly Tensor[]): Promise<Float64Array> {
  const parts: HostArray[] = [];
  for (const t of tensors) {
    parts.push(await t.data());
    t.dispose();
  }
  const all = new Float64Array(parts.reduce((n, part) => n + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** Throws unless a timed operation computes what it should: a fast wrong result is no result. */
export function expectClose(what: string, got: ArrayLike<number>, expected: ArrayLike<number>, limit: number): number {
  const error = relativeError(got, expected);
  if (!(error <= limit)) throw new Error(`${what}: relative error ${error} against float64, above ${limit}`);
  return error;
}
