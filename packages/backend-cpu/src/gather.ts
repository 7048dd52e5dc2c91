import type { Buf, Operand, Shape } from "@mamba-ts/backend";
import type { CpuMemory } from "./storage.js";
import { around, sizeOf } from "./strides.js";
import { output, read, readRange } from "./values.js";

/** Elements at indices along an axis; see `Primitives.gather`. Rows are moved as they are stored; block formats come out decoded. */
export function gather(memory: CpuMemory, x: Operand, indices: Operand, axis: number): Buf {
  const { outer, n, inner } = around(x.shape, axis);
  const at = read(memory, indices.buf);
  const { words } = memory.own(x.buf);
  const isBlock = x.dtype === "q8_0";
  const buf = memory.alloc(outer * at.length * inner, isBlock ? "float32" : x.dtype);
  const y = buf.words;
  // Along the last axis a block format's elements share blocks; elsewhere only the rows asked for are decoded.
  const decoded = isBlock && inner % 32 !== 0 ? read(memory, x.buf) : undefined;
  for (let o = 0, to = 0; o < outer; o++)
    for (let k = 0; k < at.length; k++, to += inner) {
      const index = at[k]!;
      const from = (o * n + index) * inner;
      if (index < 0 || index >= n) y.fill(0, to, to + inner);
      else if (isBlock && decoded === undefined) y.set(readRange(memory, x.buf, from, inner), to);
      else {
        const a = decoded ?? words;
        if (inner > 16) y.set(a.subarray(from, from + inner), to);
        else for (let i = 0; i < inner; i++) y[to + i] = a[from + i]!;
      }
    }
  return buf;
}

/** The adjoint of gather, added up in index order; see `Primitives.scatterAdd`. */
export function scatterAdd(memory: CpuMemory, shape: Shape, indices: Operand, updates: Operand, axis: number): Buf {
  const { outer, n, inner } = around(shape, axis);
  const at = read(memory, indices.buf);
  const a = read(memory, updates.buf);
  const out = output(memory, sizeOf(shape), updates.dtype);
  const y = out.values;
  y.fill(0);
  for (let o = 0, from = 0; o < outer; o++)
    for (let k = 0; k < at.length; k++, from += inner) {
      const index = at[k]!;
      if (index < 0 || index >= n) continue;
      const to = (o * n + index) * inner;
      for (let i = 0; i < inner; i++) y[to + i] = y[to + i]! + a[from + i]!;
    }
  return out.finish();
}
