import {
  affine,
  at,
  type Complex,
  type ComplexArray,
  complexArray,
  complexExp,
  complexExpm1Over,
  divide,
  mapComplex,
  multiply,
} from "./complex.js";
import { alphaOf, checkStep, type DiscretizationRule } from "./discretization.js";
import { SsmError } from "./errors.js";
import { dotProduct, scaledPlusIdentity, solve } from "./matrix.js";
import { matrixExponential } from "./matrix-exponential.js";
import {
  checkSystem,
  type DenseSystem,
  type DiagonalSystem,
  type DplrSystem,
  denseForm,
  type StateSpace,
} from "./system.js";

/** x[t] = A x[t-1] + B u[t], y[t] = C x[t] + D u[t], real and dense. */
export interface DiscreteDense {
  readonly form: "discrete-dense";
  readonly A: Float64Array;
  readonly B: Float64Array;
  readonly C: Float64Array;
  readonly D: number;
}

/** The same on complex modes, each standing for itself and its conjugate: y[t] = 2 Re(C x[t]) + D u[t]. */
export interface DiscreteDiagonal {
  readonly form: "discrete-diagonal";
  readonly A: ComplexArray;
  readonly B: ComplexArray;
  readonly C: ComplexArray;
  readonly D: number;
}

export type DiscreteSystem = DiscreteDense | DiscreteDiagonal;

/**
 * Discretizes a system with a step size of at least 0 (0: nothing happens). `zoh` is exact for an input held constant over the step, in
 * every form. Diagonal systems stay diagonal; DPLR systems, whose exact step has no such structure, become dense
 * (`dplrStepper` takes the steps of the bilinear family without that). Unstable systems are discretized like any other.
 * Throws SsmError for a negative step, for values that are not finite, and where an implicit rule meets its pole.
 */
export function discretizeSystem(rule: DiscretizationRule, system: StateSpace, delta: number): DiscreteSystem {
  return system.form === "diagonal"
    ? discretizeDiagonal(rule, system, delta)
    : discretizeDense(rule, denseForm(system), delta);
}

/** `discretizeSystem` for a dense system, by the matrix exponential or by solving with I - alpha delta A. */
export function discretizeDense(rule: DiscretizationRule, system: DenseSystem, delta: number): DiscreteDense {
  checkSystem("discretizeDense", system);
  checkStep("discretizeDense", delta);
  const { A, B, C, D = 0 } = system;
  const n = B.length;
  const alpha = alphaOf("discretizeDense", rule);
  const rest = { form: "discrete-dense", C, D } as const;
  if (alpha !== undefined) {
    // One solve for [I + (1 - alpha) delta A | delta B]
    const width = n + 1;
    const right = new Float64Array(n * width);
    const ahead = scaledPlusIdentity(A, n, (1 - alpha) * delta, 1);
    for (let i = 0; i < n; i++) {
      right.set(ahead.subarray(i * n, (i + 1) * n), i * width);
      right[i * width + n] = delta * B[i]!;
    }
    return { ...rest, ...unpack(solve(scaledPlusIdentity(A, n, -alpha * delta, 1), right, n), n, width) };
  }
  if (rule !== "zoh")
    return {
      ...rest,
      A: matrixExponential(
        A.map((v) => delta * v),
        n,
      ),
      B: B.map((v) => delta * v),
    };
  // exp([A, B; 0, 0] delta) = [exp(A delta), integral of exp(A s) B; 0, 1], singular A included.
  const width = n + 1;
  const block = new Float64Array(width * width);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) block[i * width + j] = delta * A[i * n + j]!;
    block[i * width + n] = delta * B[i]!;
  }
  return { ...rest, ...unpack(matrixExponential(block, width), n, width) };
}

function unpack(block: Float64Array, n: number, width: number): { A: Float64Array; B: Float64Array } {
  return {
    A: Float64Array.from({ length: n * n }, (_, i) => block[Math.floor(i / n) * width + (i % n)]!),
    B: Float64Array.from({ length: n }, (_, i) => block[i * width + n]!),
  };
}

/** `discretizeSystem` for a diagonal system. */
export function discretizeDiagonal(rule: DiscretizationRule, system: DiagonalSystem, delta: number): DiscreteDiagonal {
  checkSystem("discretizeDiagonal", system);
  checkStep("discretizeDiagonal", delta);
  const { C, D = 0 } = system;
  const alpha = alphaOf("discretizeDiagonal", rule);
  const n = system.A.re.length;
  const [A, B] = [complexArray(n), complexArray(n)];
  for (let i = 0; i < n; i++) {
    const z = affine(at(system.A, i), delta, 0);
    const b = affine(at(system.B, i), delta, 0);
    const a = alpha === undefined ? complexExp(z) : divide(affine(z, 1 - alpha, 1), affine(z, -alpha, 1));
    const input =
      alpha !== undefined ? divide(b, affine(z, -alpha, 1)) : rule === "zoh" ? multiply(b, complexExpm1Over(z)) : b;
    if (!(Number.isFinite(a.re) && Number.isFinite(a.im) && Number.isFinite(input.re) && Number.isFinite(input.im)))
      throw new SsmError("invalid-argument", `discretizeDiagonal: mode ${i} has a pole at step size ${delta}`);
    [A.re[i], A.im[i], B.re[i], B.im[i]] = [a.re, a.im, input.re, input.im];
  }
  return { form: "discrete-diagonal", A, B, C, D };
}

/** One step of a state (Re x, Im x): x := A x + B u. */
export type Stepper = (state: Float64Array, u: number) => Float64Array;

/**
 * Steps of a DPLR system by a rule of the bilinear family in O(rank n), without a dense matrix (arXiv:2111.00396, appendix C.2): the
 * inverse of I - alpha delta A is a diagonal one and, by Woodbury's identity, a correction of the rank of P.
 * Throws SsmError for `zoh` and `mamba`, whose steps have no such structure.
 */
export function dplrStepper(rule: DiscretizationRule, system: DplrSystem, delta: number): Stepper {
  checkSystem("dplrStepper", system);
  checkStep("dplrStepper", delta);
  const alpha = alphaOf("dplrStepper", rule);
  if (alpha === undefined)
    throw new SsmError(
      "invalid-argument",
      `dplrStepper: ${String(rule)} has no step of low rank`,
      "discretizeSystem makes it dense",
    );
  const { A, B, P, Q = P } = system;
  const n = A.re.length;
  const rank = P.length;
  /** 2 Re(Q_r* x) for every r */
  const inner = (x: ComplexArray): Float64Array =>
    Float64Array.from(Q, (q) => 2 * (dotProduct(q.re, x.re) + dotProduct(q.im, x.im)));
  /** x + scale P s */
  const plusP = (x: ComplexArray, s: Float64Array, scale: number): ComplexArray =>
    mapComplex(x, ({ re, im }, i) =>
      P.reduce<Complex>((z, p, r) => ({ re: z.re + scale * s[r]! * p.re[i]!, im: z.im + scale * s[r]! * p.im[i]! }), {
        re,
        im,
      }),
    );
  const resolve = (x: ComplexArray): ComplexArray =>
    mapComplex(x, (z, i) => divide(z, affine(at(A, i), -alpha * delta, 1)));
  const resolvedP = P.map(resolve);
  const capacitance = new Float64Array(rank * rank);
  for (const [r, turned] of resolvedP.entries()) {
    const column = inner(turned);
    for (let i = 0; i < rank; i++) capacitance[i * rank + r] = alpha * delta * column[i]! + (i === r ? 1 : 0);
  }
  return (state, u) => {
    const x = { re: state.slice(0, n), im: state.slice(n) };
    const ahead = mapComplex(x, (z, i) => {
      const turned = multiply(at(A, i), z);
      const k = (1 - alpha) * delta;
      return { re: z.re + k * turned.re + delta * B.re[i]! * u, im: z.im + k * turned.im + delta * B.im[i]! * u };
    });
    const right = resolve(plusP(ahead, inner(x), -(1 - alpha) * delta));
    const s = rank === 0 ? new Float64Array(0) : solve(capacitance, inner(right), rank);
    const out = { re: right.re.slice(), im: right.im.slice() };
    for (const [r, turned] of resolvedP.entries()) {
      for (let i = 0; i < n; i++) {
        out.re[i]! -= alpha * delta * s[r]! * turned.re[i]!;
        out.im[i]! -= alpha * delta * s[r]! * turned.im[i]!;
      }
    }
    return Float64Array.of(...out.re, ...out.im);
  };
}
