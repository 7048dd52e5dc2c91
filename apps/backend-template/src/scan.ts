import { type Buf, DTypeError, type Operand } from "@mamba-ts/backend";
import { around } from "./shape.js";
import type { PagedMemory } from "./storage.js";

/**
 * h[t] = a[t] h[t-1] + b[t] along `axis`, from h = 0; with `reverse` from the end towards the start. Both operands have the
 * shape of the result.
 *
 * Your backend: independent for each of the outer and inner elements, and along the axis an associative scan over pairs:
 * (a1, b1) then (a2, b2) is (a1 a2, a2 b1 + b2).
 */
export function linearScan(memory: PagedMemory, a: Operand, b: Operand, axis: number, reverse: boolean): Buf {
  if (a.dtype !== "float32") throw new DTypeError(`linearScan: not defined on ${a.dtype}`);
  const { outer, n, inner } = around(a.shape, axis);
  const [p, q] = [memory.own(a.buf), memory.own(b.buf)];
  const y = memory.alloc(outer * n * inner, a.dtype);
  for (let o = 0; o < outer; o++)
    for (let i = 0; i < inner; i++) {
      let h = 0;
      for (let step = 0; step < n; step++) {
        const at = (o * n + (reverse ? n - 1 - step : step)) * inner + i;
        // Not a[t] * 0 + b[t] at the start, which an infinite a[t] would turn into NaN.
        h = step === 0 ? q.get(at) : p.get(at) * h + q.get(at);
        y.set(at, h);
      }
    }
  return y;
}
