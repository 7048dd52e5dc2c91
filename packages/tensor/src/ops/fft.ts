import { type FftDescriptor, type FloatDType, InvalidArgumentError, UnsupportedError } from "@mamba-ts/backend";
import { fromHost } from "../create.js";
import { dispatch, type FusedDefinition } from "../dispatch.js";
import { commonBackend, expectFloat } from "../run.js";
import { scoped } from "../scope.js";
import { expectShape, show, sizeOf } from "../shape.js";
import type { Tensor } from "../tensor.js";
import { mul } from "./binary.js";
import { complexDft } from "./fft-composition.js";
import { concat, pad, stack } from "./join.js";
import { cast } from "./unary.js";
import { flip, reshape, slice } from "./view.js";

/** 1 at frequency 0 and at n / 2, 2 between: how often a real signal's half spectrum stands for the whole. */
function multiplicity(n: number): Float64Array {
  return Float64Array.from({ length: Math.floor(n / 2) + 1 }, (_, k) => (k === 0 || 2 * k === n ? 1 : 2));
}

/** Multiplies bin k by factor(multiplicity of k). */
function scaleBins(y: Tensor, n: number, factor: (multiplicity: number) => number): Tensor {
  const weights = multiplicity(n).map(factor);
  return mul(y, fromHost(y.backend, weights, [weights.length, 1], y.dtype as "float32" | "float64"));
}

function forwards(x: Tensor, n: number): Tensor {
  const bins = Math.floor(n / 2) + 1;
  const { re, im } = complexDft({ re: x, im: undefined }, n, -1);
  return stack([slice(re, 1, 0, bins), slice(im, 1, 0, bins)], 2); // [rows, bins, 2]
}

function backwards(y: Tensor, n: number): Tensor {
  const [rows, bins] = y.shape as [number, number];
  const part = (k: number): Tensor => reshape(slice(y, 2, k, k + 1), [rows, bins]);
  // The other half is the conjugate; imaginary parts of the real frequencies are ignored, as in NumPy.
  const mirror = (t: Tensor): Tensor => flip(slice(t, 1, 1, n - bins + 1), 1);
  const re = concat([part(0), mirror(part(0))], 1);
  const end = n % 2 === 0 && n > 0 ? 1 : 0;
  const inner = pad(slice(part(1), 1, 1, bins - end), 1, 1, end);
  const im = concat([inner, mul(mirror(inner), -1)], 1);
  return mul(complexDft({ re, im }, n, 1).re, 1 / n);
}

const definition: FusedDefinition<FftDescriptor, "x", "y"> = {
  name: "fft",
  outputs: ({ rows, n, inverse, dtype }) => ({
    y: { shape: inverse ? [rows, n] : [rows, Math.floor(n / 2) + 1, 2], dtype },
  }),
  compose: ({ x }, { n, inverse }) => ({ y: inverse ? backwards(x!, n) : forwards(x!, n) }),
  /** The transform is linear: its adjoint is the other direction with the bins weighted by how often they count. */
  composeBackward(_, { n, inverse }, { y }) {
    return {
      x: inverse
        ? scaleBins(rfft(y!), n, (m) => m / n)
        : irfft(
            scaleBins(y!, n, (m) => n / m),
            n,
          ),
    };
  },
};

/**
 * Real Fourier transform over the last axis, y[k] = sum_j x[j] exp(-2 pi i j k / n), unnormalised.
 * @param x - [..., n], any n of at least 1  @returns [..., floor(n / 2) + 1, 2]: (re, im)
 */
export function rfft(x: Tensor): Tensor {
  const n = x.shape.at(-1) ?? 0;
  if (n < 1) throw new InvalidArgumentError(`rfft: last axis of ${show(x.shape)} is empty`);
  return transform("rfft", x, n, false, x.shape.slice(0, -1), [n], [Math.floor(n / 2) + 1, 2]);
}

/**
 * Inverse of rfft, divided by n.
 * @param y - [..., floor(n / 2) + 1, 2]  @param n - length of the result  @returns [..., n]
 */
export function irfft(y: Tensor, n: number): Tensor {
  if (!Number.isInteger(n) || n < 1) throw new InvalidArgumentError(`irfft: length ${n} is not a positive integer`);
  const lead = y.shape.slice(0, -2);
  expectShape("irfft", "y", y.shape, [...lead, Math.floor(n / 2) + 1, 2]);
  return transform("irfft", y, n, true, lead, [Math.floor(n / 2) + 1, 2], [n]);
}

const transform = /* @__PURE__ */ scoped(function transform(
  op: string,
  x: Tensor,
  n: number,
  inverse: boolean,
  lead: readonly number[],
  from: number[],
  to: number[],
): Tensor {
  commonBackend(op, [x]);
  expectFloat(op, x);
  if (x.dtype === "bf16" || x.dtype === "f16")
    throw new UnsupportedError(`${op}: ${x.dtype}`, { hint: 'cast(x, "float32") first' });
  const rows = sizeOf(lead);
  const { y } = dispatch(
    definition,
    { x: reshape(x, [rows, ...from]) },
    { rows, n, inverse, dtype: x.dtype as FloatDType },
  );
  return cast(reshape(y!, [...lead, ...to]), x.dtype);
});
