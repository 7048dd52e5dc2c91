import {
  type FftConvolutionDescriptor,
  type FloatDType,
  InvalidArgumentError,
  UnsupportedError,
} from "@mamba-ts/backend";
import { dispatch, type FusedDefinition } from "../dispatch.js";
import { commonBackend, expectFloat } from "../run.js";
import { scope, scoped } from "../scope.js";
import { expectRank, expectShape, show } from "../shape.js";
import type { Tensor } from "../tensor.js";
import { add, mul, sub } from "./binary.js";
import { irfft, rfft } from "./fft.js";
import { pad, stack } from "./join.js";
import { sum } from "./reduce.js";
import { cast } from "./unary.js";
import { permute, reshape, slice, unsqueeze } from "./view.js";

interface Spectrum {
  readonly re: Tensor;
  readonly im: Tensor;
}

/** Bins of the last axis, padded to `size`. Scopes free what a step leaves behind before the next one begins. */
function spectrumOf(x: Tensor, size: number): Spectrum {
  return scope(() => {
    const y = rfft(pad(x, -1, 0, size - x.shape.at(-1)!));
    const part = (k: number): Tensor => reshape(slice(y, -1, k, k + 1), y.shape.slice(0, -1));
    return { re: part(0), im: part(1) };
  });
}

/** The first `length` samples of what has these bins. */
function samplesOf({ re, im }: Spectrum, size: number, length: number): Tensor {
  return slice(
    scope(() => irfft(stack([re, im], -1), size)),
    -1,
    0,
    length,
  );
}

/** a b, or conj(a) b: correlation. */
function product(a: Spectrum, b: Spectrum, conjugate = false): Spectrum {
  const [more, less] = conjugate ? [add, sub] : [sub, add];
  return scope(() => ({
    re: scope(() => more(mul(a.re, b.re), mul(a.im, b.im))),
    im: scope(() => less(mul(a.re, b.im), mul(a.im, b.re))),
  }));
}

function mapped({ re, im }: Spectrum, f: (t: Tensor) => Tensor): Spectrum {
  return { re: f(re), im: f(im) };
}

const definition: FusedDefinition<FftConvolutionDescriptor, "u" | "kernel", "y"> = {
  name: "fftConvolution",
  outputs: ({ batch, length, channels, heads, dtype }) => ({
    y: { shape: [batch, length, channels, heads], dtype },
  }),
  compose({ u, kernel }, { length, size }) {
    const input = spectrumOf(permute(u!, [0, 2, 1]), size); // [batch, heads, bins]
    const output = product(
      mapped(input, (t) => unsqueeze(t, 1)),
      spectrumOf(kernel!, size),
    );
    return { y: permute(samplesOf(output, size, length), [0, 3, 1, 2]) };
  },
  composeBackward({ u, kernel }, { length, taps, size }, { y }, needs) {
    const g = spectrumOf(permute(y!, [0, 2, 3, 1]), size); // [batch, channels, heads, bins]
    const gradU = (): Tensor => {
      const back = mapped(product(spectrumOf(kernel!, size), g, true), (t) => sum(t, 1)); // [batch, heads, bins]
      return permute(samplesOf(back, size, length), [0, 2, 1]);
    };
    const gradKernel = (): Tensor => {
      const input = mapped(spectrumOf(permute(u!, [0, 2, 1]), size), (t) => unsqueeze(t, 1));
      const sums = mapped(product(input, g, true), (t) => sum(t, 0)); // [channels, heads, bins]
      return samplesOf(sums, size, taps);
    };
    return {
      u: needs.has("u") ? scope(gradU) : undefined,
      kernel: needs.has("kernel") ? scope(gradKernel) : undefined,
    };
  },
};

/** The smallest even length of at least n with no prime factor above 5: transforms of such lengths are short chains. */
export function fastFftLength(n: number): number {
  for (let size = Math.max(2, n + (n % 2)); ; size += 2) {
    let rest = size;
    for (const p of [2, 3, 5]) while (rest % p === 0) rest /= p;
    if (rest === 1) return size;
  }
}

/**
 * Causal convolution with kernels as long as the sequence, in O(length log length): y[b, t, c, h] = sum_(s <= t) kernel[c, h, t - s] u[b, s, h].
 * NaN in a sequence spreads over all of its head's outputs, as in any convolution by transforms.
 * @param u - [batch, length, heads]
 * @param kernel - [channels, heads, taps]
 * @param options.size - the convolution is circular over this many samples, an even number of at least length and taps: taps from
 *   size - length + 1 on then stand for -1, -2, … (the last one is -1) and reach ahead. Large enough for a causal one by default.
 * @returns [batch, length, channels, heads]
 * @throws InvalidArgumentError for an empty sequence or kernel, or a size that does not hold them
 */
export const fftConvolution = /* @__PURE__ */ scoped(function fftConvolution(
  u: Tensor,
  kernel: Tensor,
  { size: wanted }: { readonly size?: number } = {},
): Tensor {
  const op = "fftConvolution";
  commonBackend(op, [u, kernel]);
  expectFloat(op, u, "u");
  if (u.dtype === "bf16" || u.dtype === "f16")
    throw new UnsupportedError(`${op}: ${u.dtype}`, { hint: 'cast(u, "float32") first' });
  const [batch, length, heads] = expectRank(op, "u", u.shape, ["batch", "length", "heads"]) as [number, number, number];
  const [channels, , taps] = expectRank(op, "kernel", kernel.shape, ["channels", "heads", "taps"]) as [
    number,
    number,
    number,
  ];
  expectShape(op, "kernel", kernel.shape, [channels, heads, taps]);
  if (length < 1 || taps < 1)
    throw new InvalidArgumentError(`${op}: a sequence ${show(u.shape)} with a kernel ${show(kernel.shape)} is empty`);
  const size = wanted ?? fastFftLength(length + taps - 1);
  if (!Number.isInteger(size) || size % 2 !== 0 || size < Math.max(length, taps))
    throw new InvalidArgumentError(
      `${op}: size is ${size}, not an even number of at least ${Math.max(length, taps)}, the length and the kernel's`,
    );
  const descriptor = { batch, length, channels, heads, taps, size, dtype: u.dtype as FloatDType };
  return dispatch(definition, { u, kernel: cast(kernel, u.dtype) }, descriptor).y!;
});
