/** Diagonal plus rank one under the bilinear rule, on tensors (arXiv:2111.00396, algorithm 1 and appendix C). */
import {
  add,
  checkpoint,
  concat,
  div,
  irfft,
  matmul,
  mul,
  permute,
  reciprocal,
  reshape,
  scope,
  slice,
  stack,
  sub,
  sum,
  type Tensor,
  unsqueeze,
} from "@mamba-ts/tensor";
import {
  type ComplexTensor,
  complexDiv,
  complexMul,
  conjugate,
  constantLike,
  parts,
  stackParts,
} from "./complex-tensor.js";
import { elementBytes } from "./heads.js";

/** A = Lambda - P P*, B and C of every head, [heads, modes]; C [channels, heads, modes]; dt [heads, 1]. */
export interface DplrModes {
  readonly A: ComplexTensor;
  readonly P: ComplexTensor;
  readonly B: ComplexTensor;
  readonly C: ComplexTensor;
  readonly dt: Tensor;
}

/** Bytes of the largest intermediate result of a tile of frequencies. */
const TILE_BYTES = 2 ** 23;

/**
 * Kernels [channels, heads, length] of systems whose C is C (I - A^length): Cauchy sums and Woodbury's identity at the roots of unity
 * (see `truncatedDplrKernel` of @mamba-ts/ssm), in tiles of frequencies that keep nothing for the gradient.
 */
export function cauchyKernel({ A, P, B, C, dt }: DplrModes, length: number): Tensor {
  const [heads, modes] = A.re.shape as [number, number];
  const channels = C.re.shape[0]!;
  const a = parts(A, (t) => mul(t, dt));
  // Every row's sum over modes v / (z - a) and their conjugates, scaled by dt.
  const ofC = parts(C, (t) => permute(t, [1, 0, 2])); // [heads, channels, modes]
  const Q = conjugate(P);
  const wide = (x: ComplexTensor): ComplexTensor => parts(x, (t) => unsqueeze(t, 1)); // [heads, 1, modes]
  const rows = [complexMul(ofC, wide(B)), complexMul(ofC, wide(P)), wide(complexMul(Q, B)), wide(complexMul(Q, P))];
  const v = {
    re: concat(
      rows.map((r) => r.re),
      1,
    ),
    im: concat(
      rows.map((r) => r.im),
      1,
    ),
  }; // [heads, 2 channels + 2, modes]
  const scale = unsqueeze(dt, 2);
  const near = wide(a);
  const alpha = mul(mul(add(mul(v.re, near.re), mul(v.im, near.im)), scale), -2);
  const weights = concat([alpha, mul(mul(v.re, scale), 2)], 1); // [heads, 2 (2 channels + 2), modes]
  const size = unsqueeze(add(mul(a.re, a.re), mul(a.im, a.im)), 2); // [heads, modes, 1]
  const damping = unsqueeze(mul(a.re, -2), 2);
  const bins = Math.floor(length / 2) + 1;
  const budget = Math.min(A.re.backend.limits.maxBufferBytes, TILE_BYTES);
  const tile = Math.max(1, Math.floor(budget / (2 * elementBytes(A.re) * heads * Math.max(modes, 4 * channels + 4))));
  const tiles: Tensor[] = [];
  for (let start = 0; start < bins; start += tile) {
    const end = Math.min(bins, start + tile);
    const compute = (): Tensor => spectrumTile(weights, size, damping, channels, length, start, end);
    // Where nothing is recorded, `checkpoint` has no scope of its own.
    tiles.push(tile >= bins ? compute() : checkpoint(() => scope(compute)));
  }
  const spectrum = concat(tiles, 2); // [heads, channels, bins, 2]
  return permute(irfft(spectrum, length), [1, 0, 2]);
}

function spectrumTile(
  weights: Tensor,
  size: Tensor,
  damping: Tensor,
  channels: number,
  length: number,
  start: number,
  end: number,
): Tensor {
  const count = end - start;
  const row = (f: (half: number) => number): Tensor =>
    constantLike(
      weights,
      Float64Array.from({ length: count }, (_, i) => f((Math.PI * (start + i)) / length)),
      [count],
    );
  // z = i s / c at frequency k, half = pi k / length; numerators and denominators are multiplied by c^2.
  const cosine = (half: number): number => (2 * half === Math.PI ? 0 : Math.cos(half));
  const [c, s] = [row(cosine), row((half) => 2 * Math.sin(half))];
  const [cc, ss, sc] = [mul(c, c), mul(s, s), mul(s, c)];
  const re = sub(mul(size, cc), ss); // [heads, modes, count]
  const im = mul(damping, mul(sc, -1)); // of the conjugate
  const inverse = reciprocal(add(mul(re, re), mul(im, im)));
  // 1 / denominator, summed over the modes: [heads, 2 (2 channels + 2), count], real and imaginary
  const sums = [matmul(weights, mul(re, inverse)), matmul(weights, mul(im, inverse))] as const;
  const total = 2 * channels + 2;
  const pick = (second: 0 | 1, from: number, to: number, part: 0 | 1): Tensor =>
    slice(sums[part], 1, second * total + from, second * total + to);
  /** (alpha c + i beta s)(g + i e), summed over modes: [heads, rows, count] */
  const sumOf = (from: number, to: number): ComplexTensor => ({
    re: sub(mul(pick(0, from, to, 0), c), mul(pick(1, from, to, 1), s)),
    im: add(mul(pick(0, from, to, 1), c), mul(pick(1, from, to, 0), s)),
  });
  const [CB, CP] = [sumOf(0, channels), sumOf(channels, 2 * channels)];
  const [QB, QP] = [sumOf(total - 2, total - 1), sumOf(total - 1, total)];
  const below = { re: add(mul(QP.re, c), 1), im: mul(QP.im, c) };
  const corrected = complexMul(CP, complexDiv(QB, below)); // [heads, channels, count]
  const value = { re: sub(CB.re, mul(corrected.re, c)), im: sub(CB.im, mul(corrected.im, c)) };
  const turned = complexMul(value, { re: row(Math.cos), im: row(Math.sin) });
  return stack([turned.re, turned.im], 3); // [heads, channels, count, 2]
}

/** x[t] = A x[t-1] + B u[t] on states (Re x, Im x). */
export interface DenseStep {
  /** [heads, size, size], size = 2 modes */
  readonly A: Tensor;
  /** [heads, size] */
  readonly B: Tensor;
}

/** The bilinear step as a dense matrix: with G = (I - dt / 2 A)^-1 by Woodbury, A = 2 G - I and B = dt G B. */
export function denseStep({ A, P, B, dt }: DplrModes): DenseStep {
  const [heads, n] = A.re.shape as [number, number];
  const half = mul(dt, 0.5);
  const below = { re: sub(1, mul(A.re, half)), im: mul(mul(A.im, half), -1) };
  const one = { re: constantLike(dt, [1], [1]), im: constantLike(dt, [0], [1]) };
  const R = complexDiv(one, below); // [heads, modes]
  const RP = complexMul(R, P);
  const QR = complexMul(R, conjugate(P));
  // 2 Re(Q* R P), then the rank-one correction.
  const middle = mul(sum(sub(mul(QR.re, P.re), mul(QR.im, P.im)), 1, { keepDims: true }), 2); // [heads, 1]
  const weight = div(half, add(mul(half, middle), 1));
  const column = unsqueeze(mul(stackParts(RP, 1), weight), 2); // [heads, size, 1]
  const row = unsqueeze(concat([mul(QR.re, 2), mul(QR.im, -2)], 1), 1); // [heads, 1, size]
  const eye = constantLike(
    dt,
    Float64Array.from({ length: n * n }, (_, i) => (i % (n + 1) === 0 ? 1 : 0)),
    [n, n],
  );
  const diagonal = (t: Tensor): Tensor => mul(unsqueeze(t, 2), eye); // [heads, modes, modes]
  const [re, im] = [diagonal(R.re), diagonal(R.im)];
  const blocks = concat([concat([re, mul(im, -1)], 2), concat([im, re], 2)], 1); // [heads, size, size]
  const G = sub(blocks, matmul(column, row));
  const stacked = unsqueeze(mul(stackParts(B, 1), dt), 2); // [heads, size, 1]
  return { A: sub(mul(G, 2), identityLike(dt, 2 * n)), B: reshape(matmul(G, stacked), [heads, 2 * n]) };
}

function identityLike(like: Tensor, n: number): Tensor {
  return constantLike(
    like,
    Float64Array.from({ length: n * n }, (_, i) => (i % (n + 1) === 0 ? 1 : 0)),
    [n, n],
  );
}

/** A^exponent by squaring, [heads, size, size]; exponent at least 1. */
export function matrixPower(A: Tensor, exponent: number): Tensor {
  let out: Tensor | undefined;
  let square = A;
  for (let e = exponent; ; e = Math.floor(e / 2)) {
    if (e % 2 === 1) out = out === undefined ? square : matmul(out, square);
    if (e <= 1) return out!;
    square = matmul(square, square);
  }
}

/** Rows [channels, heads, size] that read 2 Re(C x) from states (Re x, Im x). */
export function rowsOf(C: ComplexTensor): Tensor {
  return concat([mul(C.re, 2), mul(C.im, -2)], 2);
}

/** The inverse of `rowsOf`, as pairs [channels, heads, modes, 2]. */
export function pairsOf(rows: Tensor): Tensor {
  const n = rows.shape[2]! / 2;
  return stack([mul(slice(rows, 2, 0, n), 0.5), mul(slice(rows, 2, n), -0.5)], 3);
}

/** rows M, [channels, heads, size] */
function rowsTimes(rows: Tensor, M: Tensor): Tensor {
  return permute(matmul(permute(rows, [1, 0, 2]), M), [1, 0, 2]);
}

/** C (I - A^length), and with sign 1 the other factor of length doubling, C (I + A^length). */
export function timesPowerPlusOne(rows: Tensor, A: Tensor, length: number, sign: 1 | -1): Tensor {
  return add(rows, mul(rowsTimes(rows, matrixPower(A, length)), sign));
}

/** Powers beyond this leave nothing even of the slowest modes in use. */
const FORGOTTEN = 2 ** 22;

/**
 * The C of which `rows` is C (I - A^length): 1 / (1 - x) = (1 + x)(1 + x^2)(1 + x^4) …, which is length doubling until all is forgotten.
 */
export function untruncated(rows: Tensor, A: Tensor, length: number): Tensor {
  let power = matrixPower(A, length);
  let out = rows;
  for (let reach = length; reach < FORGOTTEN; reach *= 2) {
    out = add(out, rowsTimes(out, power));
    power = matmul(power, power);
  }
  return out;
}
