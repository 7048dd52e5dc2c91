import type { Buf, DType, Operand, Shape } from "@mamba-ts/backend";
import type { CpuMemory } from "./storage.js";
import { sizeOf } from "./strides.js";
import { output, read } from "./values.js";

/** Converts; see `Primitives.cast`. float64 reaches the 16-bit and block formats by way of float32. */
export function cast(memory: CpuMemory, x: Operand, to: DType): Buf {
  const a = read(memory, x.buf);
  const out = output(memory, sizeOf(x.shape), to);
  const y = out.values;
  if (y instanceof Int32Array) for (let i = 0; i < y.length; i++) y[i] = Math.trunc(a[i]!);
  else y.set(a);
  return out.finish();
}

/** Every element is `value`. */
export function fill(memory: CpuMemory, shape: Shape, value: number, dtype: DType): Buf {
  const out = output(memory, sizeOf(shape), dtype);
  out.values.fill(value);
  return out.finish();
}
