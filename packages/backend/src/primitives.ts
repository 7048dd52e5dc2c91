import type { DType, FloatDType } from "./dtype.js";

/** Sizes of the axes, outermost first. Zero is allowed; a scalar is `[]`. */
export type Shape = readonly number[];

/** A backend's handle to `count` elements of device memory. Everything else about it is the backend's own business. */
export interface Buf {
  readonly dtype: DType;
  readonly count: number;
}

/**
 * What an operation reads. Element `[i, j]` of the input, with all leading axes flattened into `i`, is element
 * `offset + i * rowStride + j` of `buf`.
 *
 * Primitives always see dense operands: `offset` is 0 and `rowStride` is the last axis' size, so that they may ignore both.
 * A fused op sees a slice of the last axis (`rowStride` larger, `offset` not 0) only for the arguments its `supports` names.
 */
export interface Operand {
  readonly buf: Buf;
  readonly offset: number;
  readonly rowStride: number;
  readonly shape: Shape;
  readonly dtype: DType;
}

/** A general strided view, which only `copy` sees. Strides are in elements; 0 repeats an axis; negative ones run backwards. */
export interface StridedView {
  readonly buf: Buf;
  readonly offset: number;
  readonly shape: Shape;
  readonly strides: readonly number[];
  readonly dtype: DType;
}

/** Elementwise functions of one argument. `softplus` is the identity above 20 and log1p-accurate below; `erf` to 1e-6. */
export type UnaryOp =
  | "neg"
  | "abs"
  | "sign"
  | "exp"
  | "log"
  | "sqrt"
  | "rsqrt"
  | "reciprocal"
  | "sin"
  | "cos"
  | "tanh"
  | "sigmoid"
  | "softplus"
  | "erf"
  | "floor";

/** Elementwise functions of two arguments, broadcast as in NumPy. On int32 only `add sub mul max min`. `max`/`min` pass NaN on. */
export type BinaryOp = "add" | "sub" | "mul" | "div" | "max" | "min" | "pow";

/** Comparisons, broadcast as in NumPy; the result is int32, 1 or 0. Any comparison with NaN but `ne` is 0. */
export type CompareOp = "eq" | "ne" | "lt" | "le" | "gt" | "ge";

export type ReduceOp = "sum" | "max";
export type ArgReduceOp = "max" | "min";

export interface MatmulOptions {
  /** `a` is stored [..., k, m] instead of [..., m, k]. */
  readonly transA: boolean;
  /** `b` is stored [..., n, k] instead of [..., k, n]. */
  readonly transB: boolean;
  /** Type of the result. Products are accumulated in float32 (float64 for float64 inputs) whatever it is. */
  readonly out: FloatDType;
}

/**
 * The fifteen operations every backend must have. Each returns a new buffer that aliases none of its inputs, and writes every
 * element of it. Shapes have been checked by the caller. Calls enqueue work and return at once; failures that show later are
 * reported by the next `read` or `synchronize`. `axis` is never negative.
 */
export interface Primitives {
  /** Every element is `value`. */
  fill(shape: Shape, value: number, dtype: DType): Buf;
  /** Makes a strided view dense. */
  copy(view: StridedView): Buf;
  /** Converts; to int32 truncates towards zero; to bf16 and f16 rounds to nearest even; to and from block formats along the last axis. */
  cast(x: Operand, to: DType): Buf;
  unary(op: UnaryOp, x: Operand): Buf;
  binary(op: BinaryOp, a: Operand, b: Operand): Buf;
  compare(op: CompareOp, a: Operand, b: Operand): Buf;
  /** `cond` (int32) selects `a` where it is not 0, else `b`; all three broadcast. What is not selected never shows, NaN included. */
  where(cond: Operand, a: Operand, b: Operand): Buf;
  /** Reduces one axis away. The sum over an empty axis is 0, the maximum -Infinity. */
  reduce(op: ReduceOp, x: Operand, axis: number): Buf;
  /** Index (int32) of the extreme element along an axis, which is removed; the first one among equals; NaN counts as extreme. */
  argReduce(op: ArgReduceOp, x: Operand, axis: number): Buf;
  /** Matrix product over the last two axes; the leading axes broadcast. */
  matmul(a: Operand, b: Operand, options: MatmulOptions): Buf;
  /**
   * `x` [outer…, n, inner…] taken at `indices` (int32, any shape) along `axis` -> [outer…, indices…, inner…].
   * An index outside [0, n) selects zeros.
   */
  gather(x: Operand, indices: Operand, axis: number): Buf;
  /**
   * The adjoint of gather: a result of `shape` with `updates` [outer…, indices…, inner…] added at `indices` along `axis`.
   * An index outside the axis is dropped. Deterministic.
   */
  scatterAdd(shape: Shape, indices: Operand, updates: Operand, axis: number): Buf;
  /** Zeros before and after along one axis; negative amounts trim. */
  pad(x: Operand, axis: number, before: number, after: number): Buf;
  concat(xs: readonly Operand[], axis: number): Buf;
  /** h[t] = a[t] * h[t-1] + b[t] along `axis`, h = 0 before the start; with `reverse`, h[t] = a[t] * h[t+1] + b[t]. Floats only. */
  linearScan(a: Operand, b: Operand, axis: number, reverse: boolean): Buf;
}
