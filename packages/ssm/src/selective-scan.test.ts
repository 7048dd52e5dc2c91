import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { SsmError } from "./errors.js";
import { silu, softplus } from "./functions.js";
import type { ScanArguments } from "./scan-arguments.js";
import { selectiveScan, selectiveScanChunked, selectiveScanParallel } from "./selective-scan.js";
import { poison, randomScan, relativeError, type ScanOptions, tokens } from "./test-support.js";

/**
 * The scan solved for y: no recurrence, but a sum over all earlier tokens s of the same stretch,
 * y[t] = sum_n C[t, n] (sum_s exp(A sum_{s < r <= t} d[r]) d[s] B[s, n] x[s] + exp(A sum_{r <= t} d[r]) h0) and so on.
 */
function closedForm(args: ScanArguments): { y: Float64Array; finalState: Float64Array } {
  const { batch, length, dInner, dState, groups = 1, x, A, B, C, D, z, initialState, marks } = args;
  const mark = (i: number, t: number): number => marks?.[i * length + t] ?? 0;
  const d = (i: number, t: number, c: number): number => {
    const raw = args.delta[(i * length + t) * dInner + c]! + (args.deltaBias?.[c] ?? 0);
    return args.softplus === true ? softplus(raw) : raw;
  };
  /** State (c, n) after token `end` of row i. */
  const state = (i: number, end: number, c: number, n: number): number => {
    let [sum, time] = [0, 0]; // time between s and end
    for (let s = end; s >= 0; s--) {
      if (mark(i, s) < 0) continue;
      const at = ((i * length + s) * groups + Math.floor(c / (dInner / groups))) * dState + n;
      sum += Math.exp(A[c * dState + n]! * time) * d(i, s, c) * B[at]! * x[(i * length + s) * dInner + c]!;
      if (mark(i, s) > 0) return sum;
      time += d(i, s, c);
    }
    return sum + Math.exp(A[c * dState + n]! * time) * (initialState?.[(i * dInner + c) * dState + n] ?? 0);
  };
  const y = new Float64Array(batch * length * dInner).map((_, e) => {
    const [i, t, c] = [Math.floor(e / (length * dInner)), Math.floor(e / dInner) % length, e % dInner];
    if (mark(i, t) < 0) return 0;
    let sum = (D?.[c] ?? 0) * x[e]!;
    for (let n = 0; n < dState; n++)
      sum += C[((i * length + t) * groups + Math.floor(c / (dInner / groups))) * dState + n]! * state(i, t, c, n);
    return z === undefined ? sum : sum * silu(z[e]!);
  });
  const finalState = new Float64Array(batch * dInner * dState).map((_, e) =>
    state(Math.floor(e / (dInner * dState)), length - 1, Math.floor(e / dState) % dInner, e % dState),
  );
  return { y, finalState };
}

/** Scans of random odd sizes with all combinations of options. */
const anyScan: fc.Arbitrary<ScanArguments> = fc
  .record({
    seed: fc.integer(),
    batch: fc.integer({ min: 1, max: 3 }),
    length: fc.oneof(fc.constantFrom(0, 1), fc.integer({ min: 2, max: 23 })),
    dState: fc.integer({ min: 1, max: 5 }),
    groups: fc.integer({ min: 1, max: 3 }),
    perGroup: fc.integer({ min: 1, max: 3 }),
    D: fc.boolean(),
    z: fc.boolean(),
    bias: fc.boolean(),
    softplus: fc.boolean(),
    initial: fc.boolean(),
  })
  .chain((o: ScanOptions & { batch: number }) => {
    const n = o.batch * o.length;
    const marks = fc.array(fc.constantFrom(-1, 0, 0, 0, 1), { minLength: n, maxLength: n });
    return fc.option(marks, { nil: undefined }).map((chosen) => randomScan({ ...o, marks: chosen }));
  });

const forms = [
  ["as a loop", selectiveScan],
  ["in chunks", (args: ScanArguments) => selectiveScanChunked(args, 3)],
  ["in parallel", selectiveScanParallel],
] as const;

describe.each(forms)("the selective scan %s", (_, scan) => {
  it("is the sum over all earlier tokens", () => {
    fc.assert(
      fc.property(anyScan, (args) => {
        const [got, want] = [scan(args), closedForm(args)];
        expect(relativeError(got.y, want.y, 0.1)).toBeLessThan(1e-12);
        expect(relativeError(got.finalState, want.finalState, 0.1)).toBeLessThan(1e-12);
      }),
    );
  });

  it("answers constant input to a stable scalar system with a geometric series", () => {
    const [length, d, A, u] = [50, 0.1, -2, 3];
    const fill = (value: number): Float64Array => new Float64Array(length).fill(value);
    const args = {
      batch: 1,
      length,
      dInner: 1,
      dState: 1,
      delta: fill(d),
      A: Float64Array.of(A),
      B: fill(1),
      C: fill(1),
    };
    const { y } = scan({ ...args, x: fill(u) });
    const a = Math.exp(d * A);
    const series = fill(0).map((_, t) => (d * u * (1 - a ** (t + 1))) / (1 - a));
    expect(relativeError(y, series)).toBeLessThan(1e-13);
  });

  it("holds state and gives 0 at padding, and reads nothing of it", () => {
    fc.assert(
      fc.property(
        anyScan.filter((args) => args.marks !== undefined),
        (args) => {
          const marks = args.marks!;
          const poisoned = {
            ...args,
            ...Object.fromEntries(
              (["x", "delta", "B", "C", "z"] as const).flatMap((name) =>
                args[name] === undefined ? [] : [[name, poison(args[name], marks)]],
              ),
            ),
          };
          expect(scan(poisoned)).toEqual(scan(args));
          const { y } = scan(poisoned);
          y.forEach((v, e) => {
            if (marks[Math.floor(e / args.dInner)]! < 0) expect(v).toBe(0);
          });
        },
      ),
    );
  });

  it("lets nothing through a cleared state, not even NaN or infinity", () => {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const args = randomScan({ seed: 7, batch: 1, length: 7, initial: true, D: true, marks: [0, 0, 1, -1, 0, 0, 0] });
      const clean = scan({ ...args, initialState: new Float64Array(args.initialState!.length) });
      const x = args.x.map((v, e) => (e < 2 * args.dInner ? bad : v));
      const { y, finalState } = scan({ ...args, x, initialState: args.initialState!.map(() => bad) });
      expect(finalState).toEqual(clean.finalState);
      expect(y.slice(2 * args.dInner)).toEqual(clean.y.slice(2 * args.dInner));
      expect(y.slice(0, 2 * args.dInner).some(Number.isFinite)).toBe(false);
    }
  });

  it("hands the initial state on when there are no tokens, or only padding", () => {
    const none = randomScan({ seed: 1, length: 0, initial: true });
    expect(scan(none)).toEqual({ y: new Float64Array(0), finalState: none.initialState });
    const padding = randomScan({ seed: 2, length: 2, initial: true, D: true, z: true, marks: [-1, -1, -1, -1] });
    expect(scan(padding)).toEqual({ y: new Float64Array(12), finalState: padding.initialState });
    expect(scan(randomScan({ seed: 3, length: 0 })).finalState).toEqual(new Float64Array(18));
  });
});

describe("orders of evaluation", () => {
  it("agree to 1e-12, whatever the chunk", () => {
    fc.assert(
      fc.property(anyScan, fc.integer({ min: 1, max: 30 }), (args, chunk) => {
        const want = selectiveScan(args);
        for (const got of [selectiveScanChunked(args, chunk), selectiveScanParallel(args)]) {
          expect(relativeError(got.y, want.y, 0.1)).toBeLessThan(1e-12);
          expect(relativeError(got.finalState, want.finalState, 0.1)).toBeLessThan(1e-12);
        }
      }),
    );
  });

  it("agree where all decays underflow", () => {
    const args = randomScan({ seed: 4, length: 33, initial: true });
    const fast = { ...args, A: args.A.map((v) => v * 1e4) };
    expect(relativeError(selectiveScanParallel(fast).y, selectiveScan(fast).y, 0.1)).toBeLessThan(1e-12);
    expect(relativeError(selectiveScan(fast).y, closedForm(fast).y, 0.1)).toBeLessThan(1e-12);
  });

  it("go on from a state: two parts are the whole, cut anywhere", () => {
    fc.assert(
      fc.property(anyScan, fc.nat(), (args, place) => {
        const { batch, length } = args;
        const cut = place % (length + 1);
        const part = (start: number, end: number): ScanArguments => ({
          ...args,
          length: end - start,
          ...Object.fromEntries(
            (["x", "delta", "B", "C", "z", "marks"] as const).flatMap((name) =>
              args[name] === undefined ? [] : [[name, tokens(args[name], batch, length, start, end)]],
            ),
          ),
        });
        const whole = selectiveScan(args);
        const first = selectiveScan(part(0, cut));
        const second = selectiveScan({ ...part(cut, length), initialState: first.finalState });
        expect(second.finalState).toEqual(whole.finalState);
        expect(first.y).toEqual(tokens(whole.y, batch, length, 0, cut));
        expect(second.y).toEqual(tokens(whole.y, batch, length, cut, length));
      }),
    );
  });
});

describe("wrong arguments", () => {
  const good = randomScan({
    seed: 1,
    length: 3,
    groups: 2,
    D: true,
    z: true,
    bias: true,
    initial: true,
    marks: [0, 0, 0, 0, 0, 0],
  });

  it.each(["x", "delta", "A", "B", "C", "D", "z", "deltaBias", "initialState", "marks"] as const)(
    "%s too short is named",
    (name) => {
      const call = (): unknown => selectiveScan({ ...good, [name]: good[name]!.slice(1) });
      expect(call).toThrow(SsmError);
      expect(call).toThrow(new RegExp(`^selectiveScan: ${name} has ${good[name]!.length - 1} elements, not \\[`));
    },
  );

  it("sizes and chunks that are none", () => {
    expect(() => selectiveScan({ ...good, groups: 4 })).toThrow("4 groups do not divide dInner 6");
    expect(() => selectiveScan({ ...good, groups: 0 })).toThrow(SsmError);
    expect(() => selectiveScan({ ...good, length: -1 })).toThrow("length is -1");
    expect(() => selectiveScan({ ...good, dState: Number.NaN })).toThrow("dState is NaN");
    for (const chunk of [0, -1, 1.5, Number.NaN]) expect(() => selectiveScanChunked(good, chunk)).toThrow(SsmError);
  });
});
