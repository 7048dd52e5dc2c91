/** Steps h = a h' + b. */
export interface AffineSteps {
  readonly a: Float64Array;
  readonly b: Float64Array;
}

/**
 * Inclusive prefix compositions of affine steps with (a1, b1) o (a2, b2) = (a1 a2, a2 b1 + b2), work-efficient: pairs are combined,
 * the half as long problem is solved, and its answers are the odd positions' (Blelloch, "Prefix sums and their applications", 1990).
 */
export function associativeScan({ a, b }: AffineSteps): AffineSteps {
  const n = a.length;
  if (n <= 1) return { a: a.slice(), b: b.slice() };
  const half = Math.floor(n / 2);
  const pairs = { a: new Float64Array(half), b: new Float64Array(half) };
  for (let i = 0; i < half; i++) {
    pairs.a[i] = a[2 * i]! * a[2 * i + 1]!;
    pairs.b[i] = a[2 * i + 1]! * b[2 * i]! + b[2 * i + 1]!;
  }
  const solved = associativeScan(pairs);
  const out = { a: new Float64Array(n), b: new Float64Array(n) };
  for (let i = 0; i < n; i++) {
    const before = Math.floor((i - 1) / 2); // pairs 0 … before lie wholly before i when i is even
    if (i % 2 === 1) {
      out.a[i] = solved.a[before]!;
      out.b[i] = solved.b[before]!;
    } else if (i === 0) {
      out.a[0] = a[0]!;
      out.b[0] = b[0]!;
    } else {
      out.a[i] = solved.a[i / 2 - 1]! * a[i]!;
      out.b[i] = a[i]! * solved.b[i / 2 - 1]! + b[i]!;
    }
  }
  return out;
}
