/** Complex numbers as pairs of tensors of one shape. */
import {
  add,
  concat,
  cos,
  div,
  exp,
  fromHost,
  mul,
  neg,
  reshape,
  sin,
  slice,
  sub,
  type Tensor,
  tanh,
} from "@mamba-ts/tensor";

export interface ComplexTensor {
  readonly re: Tensor;
  readonly im: Tensor;
}

/** From a trailing axis of (re, im). */
export function fromPairs(x: Tensor): ComplexTensor {
  const rest = x.shape.slice(0, -1);
  const part = (k: number): Tensor => reshape(slice(x, -1, k, k + 1), rest);
  return { re: part(0), im: part(1) };
}

/** Maps both parts. */
export function parts(x: ComplexTensor, f: (t: Tensor) => Tensor): ComplexTensor {
  return { re: f(x.re), im: f(x.im) };
}

/** Real and imaginary part one after the other along an axis. */
export function stackParts(x: ComplexTensor, axis: number): Tensor {
  return concat([x.re, x.im], axis);
}

/** The inverse of `stackParts` along the last axis. */
export function unstackParts(x: Tensor): ComplexTensor {
  const n = x.shape.at(-1)! / 2;
  return { re: slice(x, -1, 0, n), im: slice(x, -1, n) };
}

export function complexAdd(a: ComplexTensor, b: ComplexTensor): ComplexTensor {
  return { re: add(a.re, b.re), im: add(a.im, b.im) };
}

export function complexMul(a: ComplexTensor, b: ComplexTensor): ComplexTensor {
  return {
    re: sub(mul(a.re, b.re), mul(a.im, b.im)),
    im: add(mul(a.re, b.im), mul(a.im, b.re)),
  };
}

export function complexDiv(a: ComplexTensor, b: ComplexTensor): ComplexTensor {
  const size = add(mul(b.re, b.re), mul(b.im, b.im));
  return {
    re: div(add(mul(a.re, b.re), mul(a.im, b.im)), size),
    im: div(sub(mul(a.im, b.re), mul(a.re, b.im)), size),
  };
}

export function conjugate({ re, im }: ComplexTensor): ComplexTensor {
  return { re, im: neg(im) };
}

/** exp(z) - 1 without cancellation near 0: exp(x) - 1 = 2 t / (1 - t) with t = tanh(x / 2), 1 - cos(y) = 2 sin(y / 2)^2. For Re z <= 0. */
export function complexExpm1({ re, im }: ComplexTensor): ComplexTensor {
  const t = tanh(mul(re, 0.5));
  const real = div(mul(t, 2), sub(1, t));
  const half = sin(mul(im, 0.5));
  return { re: sub(mul(real, cos(im)), mul(mul(half, half), 2)), im: mul(exp(re), sin(im)) };
}

/** Numbers from the host, on the backend and in the dtype of another tensor. */
export function constantLike(like: Tensor, data: ArrayLike<number>, shape: readonly number[]): Tensor {
  return fromHost(like.backend, data, shape, like.dtype as "float32" | "float64");
}
