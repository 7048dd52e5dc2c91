/** Kernels cut off at a length, as the generating function of S4 sees them (arXiv:2111.00396, appendix C.3). */
import type { DiscreteDense } from "./discretize-system.js";
import { matrixPower, scaledPlusIdentity, solve, transpose, vecMat } from "./matrix.js";

/** C (I - A^length): with this row the untruncated sum over C A^l B omega^l at roots of unity ends at `length`. Returns [n]. */
export function truncatedOutput({ A, C }: DiscreteDense, length: number): Float64Array {
  const n = C.length;
  return vecMat(C, scaledPlusIdentity(matrixPower(A, n, length), n, -1, 1));
}

/** From the row for `length` to the one for 2 length: C (I - A^2L) = C (I - A^L) (I + A^L). */
export function doubledOutput({ A }: DiscreteDense, truncated: Float64Array, length: number): Float64Array {
  const n = truncated.length;
  return vecMat(truncated, scaledPlusIdentity(matrixPower(A, n, length), n, 1, 1));
}

/** The C of which `truncated` is C (I - A^length). Throws SsmError if A has an eigenvalue whose power is 1. */
export function untruncatedOutput({ A }: DiscreteDense, truncated: Float64Array, length: number): Float64Array {
  const n = truncated.length;
  return solve(transpose(scaledPlusIdentity(matrixPower(A, n, length), n, -1, 1), n), truncated, n);
}
