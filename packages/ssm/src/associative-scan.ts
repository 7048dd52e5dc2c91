import { SsmError } from "./errors.js";

/** Steps h[t] = a[t] h[t-1] + b[t]. */
export interface AffineSteps {
  readonly a: Float64Array;
  readonly b: Float64Array;
}

/**
 * Inclusive prefix compositions of affine steps with the associative (a1, b1) o (a2, b2) = (a1 a2, a2 b1 + b2), first step first:
 * element t of the result leads from h[-1] to h[t]. Work-efficient, fewer than 2 n compositions in O(log n) rounds: pairs are
 * combined, the half as long problem is solved, and its answers are those of the odd positions (Blelloch, "Prefix sums and their
 * applications", 1990).
 */
export function associativeScan({ a, b }: AffineSteps): AffineSteps {
  const n = a.length;
  if (b.length !== n) throw new SsmError("shape", `associativeScan: a has ${n} elements, b has ${b.length}`);
  if (n <= 1) return { a: a.slice(), b: b.slice() };
  const half = Math.floor(n / 2);
  const pairs = { a: new Float64Array(half), b: new Float64Array(half) };
  for (let i = 0; i < half; i++) {
    pairs.a[i] = a[2 * i]! * a[2 * i + 1]!;
    pairs.b[i] = a[2 * i + 1]! * b[2 * i]! + b[2 * i + 1]!;
  }
  const solved = associativeScan(pairs);
  const out = { a: a.slice(), b: b.slice() }; // position 0 is its own prefix
  for (let i = 0; i < half; i++) {
    // Pair i ends at the odd position 2 i + 1; the even one after it takes one more step.
    const odd = 2 * i + 1;
    out.a[odd] = solved.a[i]!;
    out.b[odd] = solved.b[i]!;
    if (odd + 1 === n) break;
    out.a[odd + 1] = solved.a[i]! * a[odd + 1]!;
    out.b[odd + 1] = a[odd + 1]! * solved.b[i]! + b[odd + 1]!;
  }
  return out;
}
