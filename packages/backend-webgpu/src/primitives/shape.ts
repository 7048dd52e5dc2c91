/** Primitives that move words about without looking at them. */
import type { Buf, Operand, StridedView } from "@mamba-ts/backend";
import { UnsupportedError } from "@mamba-ts/backend";
import { around, fold, four, sizeOf } from "../shapes.js";
import type { WebGpuMemory } from "../storage.js";
import { isHalf } from "./cast.js";
import { withFloat32 } from "./halves.js";
import { place } from "./place.js";

export function copy(memory: WebGpuMemory, view: StridedView): Buf {
  const { buf, offset, shape, strides, dtype } = view;
  if (isHalf(dtype)) {
    const whole = { buf, offset: 0, rowStride: buf.count, shape: [buf.count], dtype };
    return withFloat32(memory, [whole], dtype, ([wide]) => copy(memory, { ...view, buf: wide!.buf, dtype: "float32" }));
  }
  const { shape: sizes, strides: folded } = fold(shape, [strides]);
  if (sizes.length > 8)
    throw new UnsupportedError(`webgpu: a copy of ${sizes.length} axes that cannot be joined; at most 8 can be walked`);
  const y = memory.alloc(sizeOf(shape), dtype);
  const [strides_in] = folded as [number[]];
  if (sizes.length <= 2 && (strides_in.at(-1) ?? 1) === 1 && (strides_in.length < 2 || strides_in[0]! >= 0)) {
    const [run, rows] = [sizes.at(-1) ?? 1, sizes.length < 2 ? 1 : sizes[0]!];
    const from = { rows, run, x_start: offset, x_pitch: strides_in.length < 2 ? 0 : strides_in[0]! };
    place(memory, memory.own(buf), y, { ...from, y_start: 0, y_pitch: run });
    return y;
  }
  memory.gpu.run(
    "copy/strided",
    { x: memory.own(buf), y },
    {
      shape_a: four(sizes, 1, 4),
      shape_b: four(sizes, 1),
      strides_a: four(folded[0]!, 0, 4),
      strides_b: four(folded[0]!, 0),
      count: y.count,
      offset,
    },
    { threads: y.count },
  );
  return y;
}

export function pad(memory: WebGpuMemory, x: Operand, axis: number, before: number, after: number): Buf {
  if (isHalf(x.dtype)) return withFloat32(memory, [x], x.dtype, ([wide]) => pad(memory, wide!, axis, before, after));
  const { outer, n, inner } = around(x.shape, axis);
  const length = Math.max(0, before + n + after);
  const from = memory.own(x.buf);
  const y = memory.alloc(outer * length * inner, x.dtype);
  memory.gpu.run("pad/pad", { x: from, y }, { count: y.count, n, length, inner, before }, { threads: y.count });
  return y;
}

export function concat(memory: WebGpuMemory, xs: readonly Operand[], axis: number): Buf {
  const { dtype, shape } = xs[0]!;
  if (isHalf(dtype)) return withFloat32(memory, xs, dtype, (wide) => concat(memory, wide, axis));
  const { outer, inner } = around(shape, axis);
  const pieces = xs.map((x) => ({ x: memory.own(x.buf), run: x.shape[axis]! * inner }));
  const pitch = pieces.reduce((sum, { run }) => sum + run, 0);
  const y = memory.alloc(outer * pitch, dtype);
  let start = 0;
  for (const { x, run } of pieces) {
    place(memory, x, y, { rows: outer, run, x_pitch: run, y_start: start, y_pitch: pitch });
    start += run;
  }
  return y;
}
