import type { Backend, Buf, DType, Operand, Shape } from "@mamba-ts/backend";
import { allCases, type OpCase } from "@mamba-ts/backend-testing";

export const sizeOf = (shape: Shape): number => shape.reduce((n, m) => n * m, 1);

/** A seeded generator of numbers in [0, 1) (mulberry32). */
export function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function operandOf(buf: Buf, shape: Shape): Operand {
  return { buf, offset: 0, rowStride: shape.at(-1) ?? 1, shape, dtype: buf.dtype };
}

/** The same numbers on any backend, rounded to the dtype by its own cast. */
export function put(backend: Backend, values: ArrayLike<number>, shape: Shape, dtype: DType = "float32"): Operand {
  if (dtype === "int32") return operandOf(backend.upload(Int32Array.from(values), "int32"), shape);
  const wide = operandOf(backend.upload(Float32Array.from(values), "float32"), shape);
  if (dtype === "float32") return wide;
  const narrow = operandOf(backend.cast(wide, dtype), shape);
  backend.free(wide.buf);
  return narrow;
}

/** A result's numbers; it is freed. */
export async function take(backend: Backend, buf: Buf): Promise<number[]> {
  const isPlain = buf.dtype === "float32" || buf.dtype === "int32";
  const wide = isPlain ? buf : backend.cast(operandOf(buf, [buf.count]), "float32");
  const bytes = await backend.read(wide);
  if (wide !== buf) backend.free(wide);
  backend.free(buf);
  return Array.from(wide.dtype === "int32" ? new Int32Array(bytes) : new Float32Array(bytes));
}

/** The first case of every operation that float32 makes sense for. */
export function casesOfEachOp(): OpCase[] {
  const first = new Map<string, OpCase>();
  for (const each of allCases)
    if (each.dtypes?.includes("float32") !== false && !first.has(each.op)) first.set(each.op, each);
  return [...first.values()];
}
