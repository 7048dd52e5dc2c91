import {
  type Backend,
  BackendMismatchError,
  type Buf,
  type DType,
  DTypeError,
  type Operand,
  type Shape,
} from "@mamba-ts/backend";
import { expectSome, touch } from "./recorder.js";
import { show } from "./shape.js";
import { denseOperand, Tensor } from "./tensor.js";

/** The backend all tensors share; throws BackendMismatchError. */
export function commonBackend(op: string, tensors: readonly Tensor[]): Backend {
  expectSome(op, tensors);
  const { backend } = tensors[0]!;
  for (const t of tensors)
    if (t.backend !== backend)
      throw new BackendMismatchError(
        `${op}: tensors of two backends, ${backend.name} (${backend.device}) and ${t.backend.name} (${t.backend.device})`,
        {
          hint: "move one over: tensor(backend, await x.data(), x.shape)",
        },
      );
  return backend;
}

/** The dtype all tensors share; throws DTypeError. */
export function commonDType(op: string, tensors: readonly Tensor[]): DType {
  const { dtype } = tensors[0]!;
  for (const t of tensors)
    if (t.dtype !== dtype)
      throw new DTypeError(`${op}: dtypes differ: ${dtype} and ${t.dtype}`, { hint: "cast(x, dtype) converts" });
  return dtype;
}

/** Throws DTypeError unless `x` is a floating point tensor. */
export function expectFloat(op: string, x: Tensor, name = "x"): void {
  if (x.dtype === "int32" || x.dtype === "q8_0")
    throw new DTypeError(`${op}: ${name} is ${x.dtype} ${show(x.shape)}, not floating point`);
}

/** Throws DTypeError unless `x` is int32. */
export function expectInt(op: string, x: Tensor, name: string): void {
  if (x.dtype !== "int32") throw new DTypeError(`${op}: ${name} is ${x.dtype} ${show(x.shape)}, not int32`);
}

/** Calls a primitive on dense operands, making dense copies where needed, and wraps its result. */
export function run(
  op: string,
  inputs: readonly Tensor[],
  shape: Shape,
  dtype: DType,
  launch: (backend: Backend, operands: readonly Operand[]) => Buf,
): Tensor {
  const backend = commonBackend(op, inputs);
  return withOperands(inputs, (operands) => Tensor.fromBuffer(backend, launch(backend, operands), shape, dtype));
}

/** Gives `fn` dense operands; copies made for it are freed after. */
export function withOperands<T>(inputs: readonly Tensor[], fn: (operands: readonly Operand[]) => T): T {
  const copies: Tensor[] = [];
  try {
    return fn(
      inputs.map((t) => {
        touch(t);
        if (t.isDense) return denseOperand(t);
        const copy = denseCopy(t);
        copies.push(copy);
        return denseOperand(copy);
      }),
    );
  } finally {
    for (const copy of copies) copy.dispose();
  }
}

/** An unrecorded dense copy of a view. */
export function denseCopy(t: Tensor): Tensor {
  return Tensor.fromBuffer(
    t.backend,
    t.backend.copy({ buf: t.buf, offset: t.offset, shape: t.shape, strides: t.strides, dtype: t.dtype }),
    t.shape,
    t.dtype,
  );
}
