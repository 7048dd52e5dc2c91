/** State spaces with one input and one output, x' = A x + B u, y = C x + D u, in the three forms that S4 uses. */
import type { ComplexArray } from "./complex.js";
import { expectLength, SsmError } from "./errors.js";

/** A real system with any A. */
export interface DenseSystem {
  readonly form: "dense";
  /** [dState, dState] */
  readonly A: Float64Array;
  /** [dState] */
  readonly B: Float64Array;
  /** [dState] */
  readonly C: Float64Array;
  /** 0 if absent. */
  readonly D?: number;
}

/** A diagonal system of n complex modes, each of which stands for itself and its conjugate: y = 2 Re(C x) + D u. */
export interface DiagonalSystem {
  readonly form: "diagonal";
  /** [n] */
  readonly A: ComplexArray;
  /** [n] */
  readonly B: ComplexArray;
  /** [n] */
  readonly C: ComplexArray;
  readonly D?: number;
}

/**
 * Diagonal plus low rank (arXiv:2111.00396, section 3.3): A = Lambda - sum_r P_r Q_r* over all modes and their conjugates, so that on the
 * n modes kept x' = Lambda x - sum_r P_r 2 Re(Q_r* x) + B u, y = 2 Re(C x) + D u.
 */
export interface DplrSystem {
  readonly form: "dplr";
  /** Lambda, [n] */
  readonly A: ComplexArray;
  /** One array [n] per rank. */
  readonly P: readonly ComplexArray[];
  /** As many as P; P itself if absent, as HiPPO has it. */
  readonly Q?: readonly ComplexArray[];
  readonly B: ComplexArray;
  readonly C: ComplexArray;
  readonly D?: number;
}

export type StateSpace = DenseSystem | DiagonalSystem | DplrSystem;

/** Size of the real state: dState of a dense system; real and imaginary parts of all modes of the others. */
export function stateSize(system: StateSpace): number {
  return system.form === "dense" ? system.B.length : 2 * system.A.re.length;
}

/** Throws SsmError unless A is square, all sizes agree and all values are finite. */
export function checkSystem(op: string, system: StateSpace): void {
  const { A, B, C, D = 0 } = system;
  if (system.form === "dense") {
    const n = system.B.length;
    if (system.A.length !== n * n)
      throw new SsmError(
        "shape",
        `${op}: A has ${system.A.length} elements, not [${n}, ${n}]: B has ${n}, and A is square`,
      );
    expectLength(op, "C", system.C, [n]);
  } else {
    const n = system.A.re.length;
    const named: [string, ComplexArray][] = [
      ["A", system.A],
      ["B", system.B],
      ["C", system.C],
    ];
    if (system.form === "dplr") {
      const { P, Q = P } = system;
      if (P.length !== Q.length) throw new SsmError("shape", `${op}: P has rank ${P.length}, Q rank ${Q.length}`);
      for (const [r, p] of P.entries()) named.push([`P[${r}]`, p]);
      for (const [r, q] of Q.entries()) named.push([`Q[${r}]`, q]);
    }
    for (const [name, { re, im }] of named) {
      expectLength(op, `${name}.re`, re, [n]);
      expectLength(op, `${name}.im`, im, [n]);
      expectFinite(op, name, re);
      expectFinite(op, name, im);
    }
  }
  for (const [name, value] of Object.entries({ A, B, C }))
    if (value instanceof Float64Array) expectFinite(op, name, value);
  if (!Number.isFinite(D)) throw new SsmError("invalid-argument", `${op}: D is ${D}`);
}

/** Throws SsmError at the first value that is NaN or infinite. */
export function expectFinite(op: string, name: string, values: ArrayLike<number>, hint?: string): void {
  for (let i = 0; i < values.length; i++)
    if (!Number.isFinite(values[i]!))
      throw new SsmError("invalid-argument", `${op}: ${name}[${i}] is ${values[i]}`, hint);
}

/** The hint where samples may be missing. */
export const missingSamples = "leave a missing sample out and give the next one the longer step: steps may differ";

/**
 * The same system with a real, dense A: the state of a form with modes is (Re x, Im x). What every other form is tested against.
 */
export function denseForm(system: StateSpace): DenseSystem {
  checkSystem("denseForm", system);
  if (system.form === "dense") return system;
  const { A, B, C, D = 0 } = system;
  const n = A.re.length;
  const size = 2 * n;
  const dense = new Float64Array(size * size);
  for (let i = 0; i < n; i++) {
    dense[i * size + i] = dense[(n + i) * size + n + i] = A.re[i]!;
    dense[i * size + n + i] = -A.im[i]!;
    dense[(n + i) * size + i] = A.im[i]!;
  }
  if (system.form === "dplr") {
    const { P, Q = P } = system;
    for (const [r, p] of P.entries()) {
      const [column, row] = [stacked(p), stacked(Q[r]!)]; // Re(conj(q) x) = Re q Re x + Im q Im x
      for (let i = 0; i < size; i++) for (let j = 0; j < size; j++) dense[i * size + j]! -= 2 * column[i]! * row[j]!;
    }
  }
  return { form: "dense", A: dense, B: stacked(B), C: rowOf(C), D };
}

/** (Re z, Im z) */
export function stacked({ re, im }: ComplexArray): Float64Array {
  return Float64Array.of(...re, ...im);
}

/** The row c with c (Re x, Im x) = 2 Re(C x). */
export function rowOf({ re, im }: ComplexArray): Float64Array {
  return Float64Array.of(...re.map((v) => 2 * v), ...im.map((v) => -2 * v));
}

/** The C with 2 Re(C x) = c (Re x, Im x): the inverse of `rowOf`. */
export function modesOf(row: Float64Array): ComplexArray {
  const n = row.length / 2;
  return { re: row.slice(0, n).map((v) => v / 2), im: row.slice(n).map((v) => -v / 2) };
}
