import { type Complex, type ComplexArray, complexArray } from "./complex.js";
import { eigenvalues } from "./eigenvalues.js";
import { SsmError } from "./errors.js";
import { dotProduct, matVec, solve } from "./matrix.js";
import { matrixExponential } from "./matrix-exponential.js";
import { checkSystem, denseForm, expectFinite, type StateSpace } from "./system.js";

/** The poles of a system: the eigenvalues of A, of both modes of every pair. */
export function poles(system: StateSpace): ComplexArray {
  checkSystem("poles", system);
  if (system.form === "diagonal") {
    const { re, im } = system.A;
    return { re: Float64Array.of(...re, ...re), im: Float64Array.of(...im, ...im.map((v) => -v)) };
  }
  const { A, B } = denseForm(system);
  return eigenvalues(A, B.length);
}

/**
 * True if every pole lies left of -margin: the response to any impulse dies out, and bounded input gives bounded output.
 * @param margin - 0 by default; a pole on the axis (an integrator) is not stable
 */
export function isStable(system: StateSpace, margin = 0): boolean {
  return poles(system).re.every((re) => re < -margin);
}

/** Throws SsmError, naming the pole that lies furthest right, unless the system is stable. */
export function assertStable(system: StateSpace): void {
  const { re, im } = poles(system);
  const worst = re.reduce((k, v, i) => (v > re[k]! ? i : k), 0);
  if (re.length > 0 && !(re[worst]! < 0))
    throw new SsmError("invalid-argument", `the system is unstable: it has a pole at ${re[worst]} + ${im[worst]}i`);
}

/**
 * The transfer function C (s I - A)^-1 B + D. It is defined for unstable systems too, where it describes no steady state.
 * Throws SsmError where s is a pole.
 */
export function transferFunction(system: StateSpace, s: Complex): Complex {
  const { A, B, C, D = 0 } = denseForm(system);
  checkSystem("transferFunction", system);
  const n = B.length;
  const size = 2 * n;
  // (a + i b) I - A, as a real matrix acting on (Re x, Im x)
  const m = new Float64Array(size * size);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) m[i * size + j] = m[(n + i) * size + n + j] = (i === j ? s.re : 0) - A[i * n + j]!;
    m[i * size + n + i] = -s.im;
    m[(n + i) * size + i] = s.im;
  }
  const right = new Float64Array(size);
  right.set(B);
  const x = solve(m, right, size);
  return { re: dotProduct(C, x.subarray(0, n)) + D, im: dotProduct(C, x.subarray(n)) };
}

/** The transfer function on the imaginary axis, at angular frequencies in radians per unit of time. Throws SsmError if the system is unstable. */
export function frequencyResponse(system: StateSpace, frequencies: ArrayLike<number>): ComplexArray {
  expectFinite("frequencyResponse", "frequencies", frequencies);
  assertStable(system);
  const dense = denseForm(system);
  const out = complexArray(frequencies.length);
  for (let k = 0; k < frequencies.length; k++)
    ({ re: out.re[k], im: out.im[k] } = transferFunction(dense, { re: 0, im: frequencies[k]! }));
  return out;
}

/**
 * C exp(A t) B at the given times, the response to a unit impulse at 0 (without D's own impulse there).
 * @param times - any numbers of at least 0
 */
export function impulseResponse(system: StateSpace, times: ArrayLike<number>): Float64Array {
  checkSystem("impulseResponse", system);
  const { A, B, C } = denseForm(system);
  const n = B.length;
  return Float64Array.from(times, (t) => {
    if (!(t >= 0 && Number.isFinite(t)))
      throw new SsmError("invalid-argument", `impulseResponse: time ${t} is not a finite number of at least 0`);
    return dotProduct(
      C,
      matVec(
        matrixExponential(
          A.map((v) => t * v),
          n,
        ),
        B,
      ),
    );
  });
}
