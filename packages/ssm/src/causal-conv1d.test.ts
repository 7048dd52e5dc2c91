import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type ConvArguments, causalConv1d, causalConv1dGradient } from "./causal-conv1d.js";
import { SsmError } from "./errors.js";
import { silu } from "./functions.js";
import { between, centralDifferences, dot, poison, relativeError, tokens, uniforms } from "./test-support.js";

interface ConvOptions {
  readonly seed: number;
  readonly batch?: number;
  readonly length: number;
  readonly channels?: number;
  readonly width?: number;
  readonly silu?: boolean;
  readonly bias?: boolean;
  readonly initial?: boolean;
  readonly marks?: readonly number[] | undefined;
}

function randomConv(o: ConvOptions): ConvArguments {
  const { batch = 2, length, channels = 3, width = 4 } = o;
  const random = uniforms(o.seed);
  return {
    batch,
    length,
    channels,
    width,
    x: between(random, batch * length * channels),
    weight: between(random, channels * width),
    activation: o.silu === true ? "silu" : "none",
    ...(o.bias === true && { bias: between(random, channels) }),
    ...(o.initial === true && { initialState: between(random, batch * (width - 1) * channels) }),
    ...(o.marks !== undefined && { marks: Int32Array.from(o.marks) }),
  };
}

/** From the definition: what is remembered is a list of real tokens, with zeros before them. */
function remembered(args: ConvArguments): { y: Float64Array; finalState: Float64Array } {
  const { batch, length, channels, width, x, weight, bias, activation, initialState, marks } = args;
  const [y, finalState]: number[][] = [[], []];
  const zeros = (): number[][] => Array.from({ length: width - 1 }, () => new Array<number>(channels).fill(0));
  const rows = (array: Float64Array | undefined, i: number, count: number): number[][] =>
    Array.from({ length: count }, (_, t) =>
      Array.from({ length: channels }, (_, c) => array![(i * count + t) * channels + c]!),
    );
  for (let i = 0; i < batch; i++) {
    let past = initialState === undefined ? zeros() : rows(initialState, i, width - 1);
    for (const [t, token] of rows(x, i, length).entries()) {
      const mark = marks?.[i * length + t] ?? 0;
      if (mark > 0) past = zeros();
      if (mark >= 0) past.push(token);
      for (let c = 0; c < channels; c++) {
        const window = past.slice(past.length - width).map((values, k) => values[c]! * weight[c * width + k]!);
        const sum = window.reduce((a, b) => a + b, bias?.[c] ?? 0);
        y!.push(mark < 0 ? 0 : activation === "silu" ? silu(sum) : sum);
      }
    }
    finalState!.push(...past.slice(past.length - (width - 1)).flat());
  }
  return { y: Float64Array.from(y!), finalState: Float64Array.from(finalState!) };
}

const anyConv: fc.Arbitrary<ConvArguments> = fc
  .record({
    seed: fc.integer(),
    batch: fc.integer({ min: 1, max: 3 }),
    length: fc.integer({ min: 0, max: 11 }),
    channels: fc.integer({ min: 1, max: 4 }),
    width: fc.integer({ min: 1, max: 5 }),
    silu: fc.boolean(),
    bias: fc.boolean(),
    initial: fc.boolean(),
  })
  .chain((o) => {
    const n = o.batch * o.length;
    const marks = fc.array(fc.constantFrom(-1, 0, 0, 0, 1), { minLength: n, maxLength: n });
    return fc.option(marks, { nil: undefined }).map((chosen) => randomConv({ ...o, marks: chosen }));
  });

/** Tokens start … end - 1. */
function part(args: ConvArguments, start: number, end: number): ConvArguments {
  const { batch, length, x, marks } = args;
  return {
    ...args,
    length: end - start,
    x: tokens(x, batch, length, start, end),
    ...(marks !== undefined && { marks: tokens(marks, batch, length, start, end) }),
  };
}

describe("causalConv1d", () => {
  it("is a weighted sum of the last tokens", () => {
    const { y, finalState } = causalConv1d({
      batch: 1,
      length: 4,
      channels: 1,
      width: 3,
      x: Float64Array.of(1, 2, 3, 4),
      weight: Float64Array.of(100, 10, 1),
      bias: Float64Array.of(0.5),
    });
    expect(y).toEqual(Float64Array.of(1.5, 12.5, 123.5, 234.5));
    expect(finalState).toEqual(Float64Array.of(3, 4));
  });

  it("remembers real tokens only", () => {
    fc.assert(
      fc.property(anyConv, (args) => {
        const [got, want] = [causalConv1d(args), remembered(args)];
        expect(relativeError(got.y, want.y, 0.1)).toBeLessThan(1e-12);
        expect(got.finalState).toEqual(want.finalState);
      }),
    );
  });

  it("goes on from a state: two parts are the whole, cut anywhere, shorter than the width too", () => {
    fc.assert(
      fc.property(anyConv, fc.nat(), (args, place) => {
        const { batch, length } = args;
        const cut = place % (length + 1);
        const whole = causalConv1d(args);
        const first = causalConv1d(part(args, 0, cut));
        const second = causalConv1d({ ...part(args, cut, length), initialState: first.finalState });
        expect(second.finalState).toEqual(whole.finalState);
        expect(first.y).toEqual(tokens(whole.y, batch, length, 0, cut));
        expect(second.y).toEqual(tokens(whole.y, batch, length, cut, length));
      }),
    );
  });

  it("reads nothing of padding, and nothing from before a start", () => {
    const args = randomConv({
      seed: 3,
      batch: 1,
      length: 7,
      silu: true,
      bias: true,
      initial: true,
      marks: [0, -1, 0, 1, -1, 0, -1],
    });
    const clean = causalConv1d(args);
    expect(causalConv1d({ ...args, x: poison(args.x, args.marks!) })).toEqual(clean);
    const x = args.x.map((v, e) => (e < 3 * args.channels ? Number.NaN : v));
    const forgotten = causalConv1d({ ...args, x, initialState: args.initialState!.map(() => Number.NaN) });
    expect(forgotten.y.slice(3 * args.channels)).toEqual(clean.y.slice(3 * args.channels));
    expect(forgotten.finalState).toEqual(clean.finalState);
  });

  it("names what has the wrong size", () => {
    const good = randomConv({ seed: 4, length: 2, bias: true, initial: true, marks: [0, 0, 0, 0] });
    for (const name of ["x", "weight", "bias", "initialState", "marks"] as const)
      expect(() => causalConv1d({ ...good, [name]: good[name]!.slice(1) })).toThrow(`causalConv1d: ${name} has`);
    expect(() => causalConv1d({ ...good, width: 0 })).toThrow(SsmError);
    expect(() => causalConv1d({ ...good, channels: 1.5 })).toThrow("channels is 1.5");
    expect(() => causalConv1dGradient(good, good.x.slice(1))).toThrow("gradY has 11 elements, not [2, 2, 3]");
    expect(() => causalConv1dGradient(good, good.x, good.x)).toThrow("gradFinalState has 12 elements, not [2, 3, 3]");
  });
});

describe("causalConv1dGradient", () => {
  const marks7 = [-1, 0, 0, -1, 1, 0, -1, 0, -1, 0, 0, 0, 1, 1];
  const all = { silu: true, bias: true, initial: true };
  const names = ["x", "weight", "bias", "initialState"] as const;
  const lossWeights = ({ batch, length, channels, width }: ConvArguments) => {
    const random = uniforms(98);
    return {
      y: between(random, batch * length * channels),
      finalState: between(random, batch * (width - 1) * channels),
    };
  };

  it.each([
    { length: 1 },
    { length: 1, ...all },
    { length: 2, ...all },
    { length: 7 },
    { length: 7, silu: true },
    { length: 7, ...all },
    { length: 7, ...all, width: 1 },
    { length: 5, ...all, width: 2, channels: 1, batch: 1 },
    { length: 7, initial: true, marks: marks7 },
    { length: 7, ...all, marks: marks7 },
  ])("is that of central differences: %o", (o) => {
    const args = randomConv({ ...o, seed: o.length });
    const w = lossWeights(args);
    const loss = (): number => {
      const { y, finalState } = causalConv1d(args);
      return dot(w.y, y) + dot(w.finalState, finalState);
    };
    const gradients = causalConv1dGradient(args, w.y, w.finalState);
    for (const name of names) {
      const argument = args[name];
      if (argument === undefined) continue;
      expect(relativeError(gradients[name], centralDifferences(loss, argument)), name).toBeLessThan(1e-7);
    }
  });

  it("chains through the state, cut anywhere", () => {
    fc.assert(
      fc.property(anyConv, fc.nat(), (args, place) => {
        const { batch, length } = args;
        const w = lossWeights(args);
        const cut = place % (length + 1);
        const head = part(args, 0, cut);
        const tail = { ...part(args, cut, length), initialState: causalConv1d(head).finalState };
        const whole = causalConv1dGradient(args, w.y, w.finalState);
        const late = causalConv1dGradient(tail, tokens(w.y, batch, length, cut, length), w.finalState);
        const early = causalConv1dGradient(head, tokens(w.y, batch, length, 0, cut), late.initialState);
        for (const name of ["weight", "bias"] as const) {
          const sum = early[name].map((v, i) => v + late[name][i]!);
          expect(relativeError(sum, whole[name], 0.1), name).toBeLessThan(1e-11);
        }
        expect(relativeError(early.x, tokens(whole.x, batch, length, 0, cut), 0.1)).toBeLessThan(1e-11);
        expect(relativeError(late.x, tokens(whole.x, batch, length, cut, length), 0.1)).toBeLessThan(1e-11);
        expect(relativeError(early.initialState, whole.initialState, 0.1)).toBeLessThan(1e-11);
      }),
    );
  });

  it("reads nothing of padding, the arriving gradient included", () => {
    const args = randomConv({ seed: 5, length: 7, ...all, marks: marks7 });
    const w = lossWeights(args);
    const marks = args.marks!;
    const got = causalConv1dGradient({ ...args, x: poison(args.x, marks) }, poison(w.y, marks), w.finalState);
    expect(got).toEqual(causalConv1dGradient(args, w.y, w.finalState));
    got.x.forEach((v, e) => {
      if (marks[Math.floor(e / args.channels)]! < 0) expect(v).toBe(0);
    });
  });

  it("takes a missing gradient of the final state as zeros", () => {
    const args = randomConv({ seed: 6, length: 5, ...all });
    const w = lossWeights(args);
    const zeros = new Float64Array(w.finalState.length);
    expect(causalConv1dGradient(args, w.y)).toEqual(causalConv1dGradient(args, w.y, zeros));
  });
});
