import { type Backend, type DType, DTypeError, InvalidArgumentError, type Shape, ShapeError } from "@mamba-ts/backend";
import { show, sizeOf } from "./shape.js";
import { assertApiVersion, Tensor } from "./tensor.js";

type Numbers = ArrayLike<number>;
type HostDType = "float32" | "float64" | "int32";
const constructors = { float32: Float32Array, float64: Float64Array, int32: Int32Array };

/**
 * Uploads numbers, row-major. The dtype follows the array's type where none is given (plain arrays become float32); values are
 * converted if it differs. bf16 and f16 tensors come from `cast`.
 * Throws ShapeError if the count does not fit, InvalidArgumentError for an int32 value that is no int32.
 */
export function tensor(
  backend: Backend,
  data: Numbers,
  shape: Shape = [data.length],
  dtype: HostDType = dtypeOf(data),
): Tensor {
  if (dtype === "int32" && !(data instanceof Int32Array))
    for (let i = 0; i < data.length; i++)
      if ((data[i]! | 0) !== data[i])
        throw new InvalidArgumentError(`tensor: element ${i} is ${data[i]}, not an int32`);
  return fromHost(backend, data, shape, dtype);
}

/** `tensor` without the checks of values. */
export function fromHost(backend: Backend, data: Numbers, shape: Shape, dtype: HostDType): Tensor {
  assertApiVersion(backend);
  expectDType(backend, dtype);
  for (const n of shape)
    if (!Number.isInteger(n) || n < 0) throw new ShapeError(`tensor: ${show(shape)} is not a shape`);
  if (data.length !== sizeOf(shape)) throw new ShapeError(`tensor: ${data.length} numbers for shape ${show(shape)}`);
  const Typed = constructors[dtype];
  const array = data instanceof Typed ? data : Typed.from(data as ArrayLike<number>);
  return Tensor.fromBuffer(backend, backend.upload(array, dtype), shape, dtype);
}

/** Uploads elements that are already in `dtype`'s bytes, dense, little-endian (bf16, f16 and block formats included). */
export function fromBytes(backend: Backend, bytes: ArrayBufferView, shape: Shape, dtype: DType): Tensor {
  assertApiVersion(backend);
  expectDType(backend, dtype);
  return Tensor.fromBuffer(backend, backend.upload(bytes, dtype), shape, dtype);
}

function dtypeOf(data: Numbers): HostDType {
  return data instanceof Int32Array ? "int32" : data instanceof Float64Array ? "float64" : "float32";
}

/** Throws DTypeError unless the backend has this dtype. */
export function expectDType(backend: Backend, dtype: DType): void {
  if (!backend.dtypes.has(dtype))
    throw new DTypeError(`backend ${backend.name} has no ${dtype}; it has ${[...backend.dtypes].join(", ")}`);
}

/** A tensor whose elements are all `value`. */
export function fill(backend: Backend, shape: Shape, value: number, dtype: DType = "float32"): Tensor {
  assertApiVersion(backend);
  expectDType(backend, dtype);
  return Tensor.fromBuffer(backend, backend.fill(shape, value, dtype), shape, dtype);
}

/** A tensor of zeros, float32 by default. */
export function zeros(backend: Backend, shape: Shape, dtype: DType = "float32"): Tensor {
  return fill(backend, shape, 0, dtype);
}

/** A tensor of ones, float32 by default. */
export function ones(backend: Backend, shape: Shape, dtype: DType = "float32"): Tensor {
  return fill(backend, shape, 1, dtype);
}

/** start, start + 1, … below `end`, as int32. */
export function range(backend: Backend, start: number, end: number): Tensor {
  return fromHost(
    backend,
    Int32Array.from({ length: Math.max(0, end - start) }, (_, i) => start + i),
    [Math.max(0, end - start)],
    "int32",
  );
}
