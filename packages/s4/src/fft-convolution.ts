import {
  add,
  concat,
  flip,
  irfft,
  mul,
  pad,
  rfft,
  scope,
  slice,
  stack,
  sub,
  type Tensor,
  unsqueeze,
} from "@mamba-ts/tensor";
import { type ComplexTensor, fromPairs, parts } from "./complex-tensor.js";

/** The smallest even length of at least n with no prime factor above 5: transforms of such lengths are short chains. */
export function fastLength(n: number): number {
  for (let size = Math.max(2, n + (n % 2)); ; size += 2) {
    let rest = size;
    for (const p of [2, 3, 5]) while (rest % p === 0) rest /= p;
    if (rest === 1) return size;
  }
}

/**
 * y[t] = sum_(s <= t) kernel[t - s] u[s] for every channel and head; with `backward`, plus sum_(s > t) backward[s - t - 1] u[s], so that
 * the present is counted once. NaN in a sequence spreads over all of its head's outputs, as in any convolution by transforms.
 * @param u - [batch, heads, length]  @param kernel, backward - [channels, heads, length]  @returns [batch, channels, heads, length]
 */
export function fftConvolution(u: Tensor, kernel: Tensor, backward?: Tensor): Tensor {
  const length = u.shape[2]!;
  const size = fastLength(2 * length);
  const padded = (kernel: Tensor): Tensor =>
    backward === undefined
      ? pad(kernel, 2, 0, size - length)
      : concat([pad(kernel, 2, 0, size - 2 * length), flip(backward, 2)], 2); // tap -1 - i lies at size - 1 - i
  // Scopes free what a step leaves behind before the next one begins.
  const spectrum = (x: () => Tensor): ComplexTensor => scope(() => fromPairs(rfft(x())));
  const product = scope(() => {
    const a = parts(
      spectrum(() => pad(u, 2, 0, size - length)),
      (t) => unsqueeze(t, 1),
    ); // [batch, 1, heads, bins]
    const b = spectrum(() => padded(kernel)); // [channels, heads, bins]
    const re = scope(() => sub(mul(a.re, b.re), mul(a.im, b.im)));
    const im = scope(() => add(mul(a.re, b.im), mul(a.im, b.re)));
    return stack([re, im], 4); // [batch, channels, heads, bins, 2]
  });
  return slice(irfft(product, size), 3, 0, length); // [batch, channels, heads, length]
}
