import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { SsmError } from "./errors.js";
import type { ScanArguments } from "./scan-arguments.js";
import { selectiveScan } from "./selective-scan.js";
import { type ScanGradients, selectiveScanGradient } from "./selective-scan-gradient.js";
import {
  between,
  centralDifferences,
  dot,
  poison,
  randomScan,
  relativeError,
  type ScanOptions,
  tokens,
  uniforms,
} from "./test-support.js";

const names = ["x", "delta", "A", "B", "C", "D", "z", "deltaBias", "initialState"] as const;
const perToken = ["x", "delta", "B", "C", "z"] as const;

/** Weights of a random linear loss of y and the final state: its gradients arriving at both. */
function lossWeights({ batch, length, dInner, dState }: ScanArguments): { y: Float64Array; finalState: Float64Array } {
  const random = uniforms(99);
  return { y: between(random, batch * length * dInner), finalState: between(random, batch * dInner * dState) };
}

// Left padding, padding inside, a start after padding, right padding; and a row that starts at once and ends in one token alone.
const marks9 = [-1, -1, 0, 0, -1, 0, 1, 0, -1, 1, 0, -1, 1, 1, 0, -1, 0, 1];
const all = { D: true, z: true, bias: true, softplus: true, initial: true };
const cases: readonly Omit<ScanOptions, "seed">[] = [
  { length: 1 },
  { length: 1, ...all },
  { length: 2, initial: true },
  { length: 7 },
  { length: 7, D: true },
  { length: 7, z: true },
  { length: 7, bias: true },
  { length: 7, softplus: true },
  { length: 7, bias: true, softplus: true },
  { length: 7, D: true, z: true },
  { length: 7, ...all },
  { length: 7, ...all, batch: 1, dState: 1, perGroup: 1 },
  { length: 5, ...all, groups: 3, perGroup: 2 },
  { length: 5, groups: 2, perGroup: 1, dState: 5 },
  { length: 9, initial: true, marks: marks9 },
  { length: 9, ...all, groups: 2, marks: marks9 },
];

describe("selectiveScanGradient", () => {
  it.each(cases.map((o, seed) => ({ ...o, seed })))("is that of central differences: %o", (o) => {
    const args = randomScan(o);
    const w = lossWeights(args);
    const loss = (): number => {
      const { y, finalState } = selectiveScan(args);
      return dot(w.y, y) + dot(w.finalState, finalState);
    };
    const gradients = selectiveScanGradient(args, w.y, w.finalState);
    for (const name of names) {
      const argument = args[name];
      if (argument === undefined) continue;
      expect(relativeError(gradients[name], centralDifferences(loss, argument)), name).toBeLessThan(1e-7);
    }
  });

  it("gives the arguments that are absent their gradients at zeros, the gate none", () => {
    const args = randomScan({ seed: 5, length: 6, softplus: true });
    const [w, size] = [lossWeights(args), args.batch * args.dInner * args.dState];
    const got = selectiveScanGradient(args, w.y, w.finalState);
    const zeros = { D: new Float64Array(3), deltaBias: new Float64Array(3), initialState: new Float64Array(size) };
    expect(got).toEqual(selectiveScanGradient({ ...args, ...zeros }, w.y, w.finalState));
    expect(Math.hypot(...got.D, ...got.deltaBias)).toBeGreaterThan(0);
    expect(got.z).toEqual(new Float64Array(args.x.length));
  });

  it("takes a missing gradient of the final state as zeros", () => {
    const args = randomScan({ seed: 6, length: 5, ...all });
    const w = lossWeights(args);
    const zeros = new Float64Array(w.finalState.length);
    expect(selectiveScanGradient(args, w.y)).toEqual(selectiveScanGradient(args, w.y, zeros));
  });

  it("chains through the state: those of two parts make up those of the whole, cut anywhere", () => {
    const options = fc.record({
      seed: fc.integer(),
      length: fc.integer({ min: 0, max: 9 }),
      groups: fc.integer({ min: 1, max: 2 }),
      z: fc.boolean(),
      isMarked: fc.boolean(),
    });
    fc.assert(
      fc.property(options, fc.nat(), ({ isMarked, ...o }, place) => {
        const marks = isMarked ? marks9.flatMap((m, i) => (i % 9 < o.length ? [m] : [])) : undefined;
        const args = randomScan({ ...all, ...o, marks });
        const { batch, length } = args;
        const w = lossWeights(args);
        const cut = place % (length + 1);
        const part = (start: number, end: number): ScanArguments => ({
          ...args,
          length: end - start,
          ...Object.fromEntries(
            [...perToken, "marks" as const].flatMap((name) =>
              args[name] === undefined ? [] : [[name, tokens(args[name], batch, length, start, end)]],
            ),
          ),
        });
        const head = part(0, cut);
        const tail = { ...part(cut, length), initialState: selectiveScan(head).finalState };
        const whole = selectiveScanGradient(args, w.y, w.finalState);
        const late = selectiveScanGradient(tail, tokens(w.y, batch, length, cut, length), w.finalState);
        const early = selectiveScanGradient(head, tokens(w.y, batch, length, 0, cut), late.initialState);
        const sum = (name: keyof ScanGradients): Float64Array => early[name].map((v, i) => v + late[name][i]!);
        for (const name of ["A", "D", "deltaBias"] as const)
          expect(relativeError(sum(name), whole[name], 0.1), name).toBeLessThan(1e-11);
        for (const name of perToken) {
          expect(relativeError(early[name], tokens(whole[name], batch, length, 0, cut), 0.1), name).toBeLessThan(1e-11);
          expect(relativeError(late[name], tokens(whole[name], batch, length, cut, length), 0.1), name).toBeLessThan(
            1e-11,
          );
        }
        expect(relativeError(early.initialState, whole.initialState, 0.1)).toBeLessThan(1e-11);
      }),
    );
  });

  it("is 0 at padding and reads nothing of it, the arriving gradient included", () => {
    const args = randomScan({ seed: 8, length: 9, ...all, marks: marks9 });
    const marks = args.marks!;
    const w = lossWeights(args);
    const poisoned = { ...args, ...Object.fromEntries(perToken.map((name) => [name, poison(args[name]!, marks)])) };
    const got = selectiveScanGradient(poisoned, poison(w.y, marks), w.finalState);
    expect(got).toEqual(selectiveScanGradient(args, w.y, w.finalState));
    for (const name of perToken) {
      const width = got[name].length / marks.length;
      got[name].forEach((v, i) => {
        if (marks[Math.floor(i / width)]! < 0) expect(v, name).toBe(0);
      });
    }
  });

  it("does not pass a cleared state, not even with NaN on either side", () => {
    const args = randomScan({ seed: 9, batch: 1, length: 4, initial: true, marks: [0, 0, 1, 0] });
    const w = lossWeights(args);
    const nan = new Float64Array(w.finalState.length).fill(Number.NaN);
    const zero = new Float64Array(w.finalState.length);
    const half = 2 * args.dInner;
    const [bad, good] = [selectiveScanGradient(args, w.y, nan), selectiveScanGradient(args, w.y, zero)];
    expect(bad.initialState).toEqual(good.initialState);
    expect(bad.x.slice(0, half)).toEqual(good.x.slice(0, half));
    expect(bad.x.slice(half)).not.toEqual(good.x.slice(half));
    const late = selectiveScanGradient({ ...args, initialState: nan }, w.y, w.finalState);
    expect(late.x.slice(half)).toEqual(selectiveScanGradient(args, w.y, w.finalState).x.slice(half));
  });

  it("hands the gradient of the final state on when there are no tokens", () => {
    const args = randomScan({ seed: 10, length: 0, initial: true });
    const { finalState } = lossWeights(args);
    expect(selectiveScanGradient(args, new Float64Array(0), finalState).initialState).toEqual(finalState);
  });

  it("names arriving gradients of the wrong size", () => {
    const args = randomScan({ seed: 11, length: 2 });
    const w = lossWeights(args);
    expect(() => selectiveScanGradient(args, w.y.slice(1))).toThrow(SsmError);
    expect(() => selectiveScanGradient(args, w.y.slice(1))).toThrow("gradY has 11 elements, not [2, 2, 3]");
    expect(() => selectiveScanGradient(args, w.y, w.y)).toThrow("gradFinalState has 12 elements, not [2, 3, 3]");
  });
});
