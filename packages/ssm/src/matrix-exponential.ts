import { SsmError } from "./errors.js";
import { identity, matMul, scaledPlusIdentity, solve } from "./matrix.js";

/** Coefficients of the diagonal Padé approximant of degree 13, and the norm up to which it is exact to rounding. */
const PADE = [
  64764752532480000, 32382376266240000, 7771770303897600, 1187353796428800, 129060195264000, 10559470521600,
  670442572800, 33522128640, 1323241920, 40840800, 960960, 16380, 182, 1,
];
const THETA = 5.371920351148152;

/**
 * exp(a) for a matrix [n, n], by scaling and squaring of a Padé approximant (Higham, SIAM J. Matrix Anal. Appl. 26, 2005).
 * Throws SsmError if a has a value that is not finite.
 */
export function matrixExponential(a: Float64Array, n: number): Float64Array {
  if (!a.every(Number.isFinite)) throw new SsmError("invalid-argument", "matrixExponential: a value is not finite");
  let norm = 0;
  for (let j = 0; j < n; j++) {
    let column = 0;
    for (let i = 0; i < n; i++) column += Math.abs(a[i * n + j]!);
    norm = Math.max(norm, column);
  }
  const squarings = norm > THETA ? Math.ceil(Math.log2(norm / THETA)) : 0;
  const a1 = a.map((v) => v / 2 ** squarings);
  const a2 = matMul(a1, a1, n);
  const a4 = matMul(a2, a2, n);
  const a6 = matMul(a4, a2, n);
  /** c0 I + c2 a2 + c4 a4 + c6 a6 */
  const even = (c0: number, c2: number, c4: number, c6: number): Float64Array =>
    scaledPlusIdentity(
      a2.map((v, i) => c2 * v + c4 * a4[i]! + c6 * a6[i]!),
      n,
      1,
      c0,
    );
  const [b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11, b12, b13] = PADE as [
    number,
    number,
    number,
    number,
    number,
    number,
    number,
    number,
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const plus = (x: Float64Array, y: Float64Array): Float64Array => x.map((v, i) => v + y[i]!);
  const u = matMul(a1, plus(matMul(a6, even(0, b9, b11, b13), n), even(b1, b3, b5, b7)), n);
  const v = plus(matMul(a6, even(0, b8, b10, b12), n), even(b0, b2, b4, b6));
  let out =
    n === 0
      ? identity(0)
      : solve(
          v.map((x, i) => x - u[i]!),
          plus(v, u),
          n,
        );
  for (let i = 0; i < squarings; i++) out = matMul(out, out, n);
  return out;
}
