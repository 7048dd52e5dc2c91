import {
  type BinaryOp,
  type Buf,
  type CompareOp,
  type DType,
  type Operand,
  type Shape,
  type UnaryOp,
  UnsupportedError,
} from "@mamba-ts/backend";
import type { CudaDevice } from "./device.js";
import { f64, i32, i64, type Parameter } from "./launch.js";
import { broadcastShape, broadcastStrides, mergeAxes, sizeOf } from "./shapes.js";

const FILE = "elementwise";
/** In the order of the switch of the kernel. */
const unaryOps: readonly UnaryOp[] = [
  ...(["neg", "abs", "sign", "exp", "log", "sqrt", "rsqrt", "reciprocal"] as const),
  ...(["sin", "cos", "tanh", "sigmoid", "softplus", "erf", "floor"] as const),
];
const binaryOps: readonly BinaryOp[] = ["add", "sub", "mul", "div", "max", "min", "pow"];
const compareOps: readonly CompareOp[] = ["eq", "ne", "lt", "le", "gt", "ge"];
const MAX_AXES = 6;

/** `struct Axes` of the kernels. */
function axes(shape: Shape, operands: readonly Shape[]): Parameter {
  const { size, strides } = mergeAxes(
    shape,
    operands.map((own) => broadcastStrides(own, shape.length)),
  );
  if (size.length > MAX_AXES)
    throw new UnsupportedError(
      `cuda: [${shape.join(", ")}] broadcasts over ${size.length} axes, more than ${MAX_AXES}`,
    );
  const padded = (ns: readonly number[]): number[] => Array.from({ length: MAX_AXES }, (_, i) => ns[i] ?? 0);
  return i64([size.length, ...padded(size), ...[0, 1, 2].flatMap((k) => padded(strides[k] ?? []))]);
}

export function fill(device: CudaDevice, shape: Shape, value: number, dtype: DType): Buf {
  const n = sizeOf(shape);
  const y = device.alloc(n, dtype);
  device.each(FILE, `fill_${dtype}`, n, [y, f64(value), i64(n)]);
  return y;
}

export function cast(device: CudaDevice, x: Operand, to: DType): Buf {
  const n = sizeOf(x.shape);
  const y = device.alloc(n, to);
  const halves: readonly DType[] = ["bf16", "f16"];
  const isQuick = (x.dtype === "float32" && halves.includes(to)) || (to === "float32" && halves.includes(x.dtype));
  // Allocations are rounded up to 512 bytes, so that the last quad is there whole.
  if (isQuick)
    device.each(
      FILE,
      `cast_quads_${x.dtype}_${to}`,
      Math.ceil(n / 4),
      [device.own(x), y, i64(Math.ceil(n / 4))],
      "ends",
    );
  else device.each(FILE, `cast_${x.dtype}_${to}`, n, [device.own(x), y, i64(n)]);
  return y;
}

export function unary(device: CudaDevice, op: UnaryOp, x: Operand): Buf {
  const n = sizeOf(x.shape);
  const y = device.alloc(n, x.dtype);
  device.each(FILE, `unary_${x.dtype}`, n, [device.own(x), y, i64(n), i32(unaryOps.indexOf(op))]);
  return y;
}

export function binary(device: CudaDevice, op: BinaryOp, a: Operand, b: Operand): Buf {
  const n = sizeOf(a.shape);
  if (n > 0 && a.shape.length === b.shape.length && a.shape.every((m, d) => m === b.shape[d])) {
    const y = device.alloc(n, a.dtype);
    const packs = Math.ceil(y.byteLength / 16);
    const parameters = [device.own(a), device.own(b), y, i64(packs), i32(binaryOps.indexOf(op))];
    device.each(FILE, `binary_same_${a.dtype}`, packs, parameters);
    return y;
  }
  return pairwise(device, `binary_${a.dtype}`, binaryOps.indexOf(op), a, b, a.dtype);
}

export function compare(device: CudaDevice, op: CompareOp, a: Operand, b: Operand): Buf {
  return pairwise(device, `compare_${a.dtype}`, compareOps.indexOf(op), a, b, "int32");
}

function pairwise(device: CudaDevice, kernel: string, op: number, a: Operand, b: Operand, out: DType): Buf {
  const shape = broadcastShape(a.shape, b.shape);
  const n = sizeOf(shape);
  const y = device.alloc(n, out);
  const parameters = [device.own(a), device.own(b), y, i64(n), axes(shape, [a.shape, b.shape]), i32(op)];
  device.each(FILE, kernel, n, parameters);
  return y;
}

export function where(device: CudaDevice, cond: Operand, a: Operand, b: Operand): Buf {
  const shape = broadcastShape(cond.shape, broadcastShape(a.shape, b.shape));
  const n = sizeOf(shape);
  const y = device.alloc(n, a.dtype);
  const operands = [cond, a, b];
  const pointers = operands.map((x) => device.own(x));
  const walk = axes(
    shape,
    operands.map((x) => x.shape),
  );
  device.each(FILE, `where_${a.dtype}`, n, [...pointers, y, i64(n), walk]);
  return y;
}
