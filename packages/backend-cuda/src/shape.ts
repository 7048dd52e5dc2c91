import { type Buf, dtypeLayout, type Operand, type Shape, type StridedView, UnsupportedError } from "@mamba-ts/backend";
import type { CudaDevice } from "./device.js";
import { i64 } from "./launch.js";
import type { CudaBuf } from "./memory.js";
import { around, mergeAxes, sizeOf } from "./shapes.js";

const MAX_AXES = 8;

interface Side {
  readonly buf: CudaBuf;
  readonly offset: number;
  readonly strides: readonly number[];
}

/** Moves rows that are contiguous on both sides, in the largest units that fit; false if they are not so. */
function moveRows(
  device: CudaDevice,
  size: readonly number[],
  [source, target]: readonly [readonly number[], readonly number[]],
  from: Side,
  to: Side,
): boolean {
  const last = size.length - 1;
  const isRows = size.length <= 2 && (last < 0 || (source[last] === 1 && target[last] === 1));
  if (!isRows) return false;
  const each = to.buf.bytesEach;
  const [rows, width] = size.length === 2 ? [size[0]!, size[1]!] : [1, size[0] ?? 1];
  const steps = size.length === 2 ? ([source[0]!, target[0]!] as const) : ([width, width] as const);
  const starts = [from.buf.pointer + from.offset * each, to.buf.pointer + to.offset * each] as const;
  if (rows === 1) {
    device.native.copy(starts[1], starts[0], width * each);
    return true;
  }
  if (steps.some((step) => step < 0) || width * each >= 2 ** 31) return false;
  const unit = [16, 8, 4, 2].find((bytes) =>
    [...starts, width * each, ...steps.map((s) => s * each)].every((n) => n % bytes === 0),
  );
  if (unit === undefined) return false;
  const inUnits = (n: number): number => (n * each) / unit;
  // A block is as wide as a row needs, and takes several short ones by its other axis.
  const across = Math.min(256, 2 ** Math.ceil(Math.log2(inUnits(width))));
  const numbers = i64([rows, ...[width, ...steps].map(inUnits)]);
  const down = 256 / across;
  const grid = [Math.min(Math.ceil(inUnits(width) / across), 64), Math.min(Math.ceil(rows / down), 65_535)] as const;
  device.launch(
    "shape",
    `copy_rows_${unit}`,
    grid,
    [across, down],
    [{ pointer: starts[0], of: from.buf }, { pointer: starts[1], of: to.buf }, numbers],
  );
  return true;
}

/** Copies the elements of `shape` from one view to another. */
function move(device: CudaDevice, shape: Shape, from: Side, to: Side): void {
  const n = sizeOf(shape);
  if (n === 0) return;
  const { size, strides } = mergeAxes(shape, [from.strides, to.strides]);
  if (moveRows(device, size, strides as [number[], number[]], from, to)) return;
  if (size.length > MAX_AXES)
    throw new UnsupportedError(`cuda: a view [${shape.join(", ")}] of ${size.length} axes, more than ${MAX_AXES}`);
  const padded = (ns: readonly number[]): number[] => Array.from({ length: MAX_AXES }, (_, i) => ns[i] ?? 0);
  const view = i64([size.length, ...padded(size), ...padded(strides[0]!), ...padded(strides[1]!)]);
  const kernel = `copy_${dtypeLayout[to.buf.dtype].bytes}`;
  device.each("shape", kernel, n, [from.buf, to.buf, i64(n), view, i64(from.offset), i64(to.offset)]);
}

function dense(shape: Shape): number[] {
  const strides = new Array<number>(shape.length).fill(1);
  for (let d = shape.length - 2; d >= 0; d--) strides[d] = strides[d + 1]! * shape[d + 1]!;
  return strides;
}

export function copy(device: CudaDevice, { buf, offset, shape, strides, dtype }: StridedView): Buf {
  const y = device.alloc(sizeOf(shape), dtype);
  move(device, shape, { buf: device.own(buf), offset, strides }, { buf: y, offset: 0, strides: dense(shape) });
  return y;
}

export function concat(device: CudaDevice, xs: readonly Operand[], axis: number): Buf {
  const total = xs.reduce((n, x) => n + x.shape[axis]!, 0);
  const { outer, inner } = around(xs[0]!.shape, axis);
  const y = device.alloc(outer * total * inner, xs[0]!.dtype);
  let start = 0;
  for (const x of xs) {
    const width = x.shape[axis]! * inner;
    const from = { buf: device.own(x), offset: 0, strides: [width, 1] };
    move(device, [outer, width], from, { buf: y, offset: start, strides: [total * inner, 1] });
    start += width;
  }
  return y;
}

/** Zeros around, or a part. */
export function pad(device: CudaDevice, x: Operand, axis: number, before: number, after: number): Buf {
  const { outer, n, inner } = around(x.shape, axis);
  const length = n + before + after;
  const y = device.alloc(outer * length * inner, x.dtype);
  if ((before > 0 || after > 0) && y.room > 0) device.native.set(y.pointer, 0, y.byteLength);
  const first = Math.max(0, -before);
  const kept = Math.max(0, Math.min(n, length - before) - first) * inner;
  const from = { buf: device.own(x), offset: first * inner, strides: [n * inner, 1] };
  const to = { buf: y, offset: (first + before) * inner, strides: [length * inner, 1] };
  move(device, [outer, kept], from, to);
  return y;
}
