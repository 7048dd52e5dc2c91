import type { Buf, Operand } from "@mamba-ts/backend";
import type { CpuMemory } from "./storage.js";
import { around } from "./strides.js";
import { floatOutput, floats } from "./values.js";

/** h[t] = a[t] h[t-1] + b[t] along an axis, or from its end; see `Primitives.linearScan`. h is rounded to float32 where a is float32. */
export function linearScan(memory: CpuMemory, a: Operand, b: Operand, axis: number, reverse: boolean): Buf {
  const { outer, n, inner } = around(a.shape, axis);
  const [p, q] = [floats(memory, a), floats(memory, b)];
  const out = floatOutput(memory, outer * n * inner, a.dtype);
  const h = out.values;
  const step = reverse ? -inner : inner;
  for (let o = 0; o < outer && n > 0; o++) {
    const start = (o * n + (reverse ? n - 1 : 0)) * inner;
    for (let i = 0; i < inner; i++) h[start + i] = q[start + i]!;
    for (let k = 1, at = start + step; k < n; k++, at += step)
      for (let i = 0; i < inner; i++) h[at + i] = p[at + i]! * h[at - step + i]! + q[at + i]!;
  }
  return out.finish();
}
