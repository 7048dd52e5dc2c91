import type { DType, SelectiveScanDescriptor } from "@mamba-ts/backend";
import { describe, expect, test } from "vitest";
import {
  type Arguments,
  expectGradients,
  freeAll,
  gradientsOf,
  outputsOf,
  poisonedBackend,
  randomNumbers,
  relativeError,
  rounded,
  take,
  upload,
} from "../../test/support.js";

const backend = poisonedBackend();
const op = backend.fused!.selectiveScan!;

const everything: SelectiveScanDescriptor = {
  batch: 2,
  length: 5,
  dInner: 4,
  dState: 3,
  groups: 2,
  dtype: "float64",
  softplus: true,
  hasD: true,
  hasZ: true,
  hasDeltaBias: true,
  hasInitialState: true,
  hasMarks: true,
};
const nothing = {
  softplus: false,
  hasD: false,
  hasZ: false,
  hasDeltaBias: false,
  hasInitialState: false,
  hasMarks: false,
};

/** Arguments for a descriptor: padding holds NaN, which nothing may read. */
function argumentsFor(d: SelectiveScanDescriptor, seed = 1): Arguments {
  const random = randomNumbers(seed);
  const { batch, length, dInner, dState, groups } = d;
  const marks = Array.from({ length: batch * length }, (_, i) => [0, -1, 0, 1, 0, 0, -1][(i * 5) % 7]!);
  const rows = (width: number, f: (x: number) => number = (x) => x) => ({
    shape: [batch, length, width],
    data: random(batch * length * width).map((x, i) =>
      d.hasMarks && marks[Math.floor(i / width)] === -1 ? Number.NaN : f(x),
    ),
  });
  return {
    x: rows(dInner),
    delta: rows(dInner, d.softplus ? (x) => 2 * x : (x) => 0.6 + 0.5 * x),
    A: { shape: [dInner, dState], data: random(dInner * dState).map((x) => -1.2 + x) },
    B: rows(groups * dState),
    C: rows(groups * dState),
    ...(d.hasD ? { D: { shape: [dInner], data: random(dInner) } } : {}),
    ...(d.hasZ ? { z: rows(dInner, (x) => 3 * x) } : {}),
    ...(d.hasDeltaBias ? { deltaBias: { shape: [dInner], data: random(dInner) } } : {}),
    ...(d.hasInitialState
      ? { initialState: { shape: [batch, dInner, dState], data: random(batch * dInner * dState) } }
      : {}),
    ...(d.hasMarks ? { marks: { shape: [batch, length], data: marks, dtype: "int32" } } : {}),
  };
}

/** Weights and states are float32 at least. */
function inPrecision(args: Arguments, dtype: DType): Arguments {
  const kept = dtype === "float64" ? "float64" : "float32";
  return Object.fromEntries(
    Object.entries(args).map(([name, t]) => [
      name,
      ["A", "D", "deltaBias", "initialState"].includes(name) ? { ...t, dtype: kept } : t,
    ]),
  );
}

/** The descriptor's equations, one state at a time. */
function definition(args: Arguments, d: SelectiveScanDescriptor): { y: number[]; finalState: number[] } {
  const { batch, length, dInner, dState, groups } = d;
  const value = (name: string, index: number, absent = 0): number => args[name]?.data[index] ?? absent;
  const y = new Array<number>(batch * length * dInner).fill(0);
  const finalState: number[] = [];
  for (let b = 0; b < batch; b++)
    for (let c = 0; c < dInner; c++)
      for (let n = 0; n < dState; n++) {
        const bc = Math.floor(c / (dInner / groups)) * dState + n;
        let h = value("initialState", (b * dInner + c) * dState + n);
        for (let t = 0; t < length; t++) {
          const row = b * length + t;
          const mark = value("marks", row);
          if (mark === -1) continue;
          if (mark === 1) h = 0;
          const raw = value("delta", row * dInner + c) + value("deltaBias", c);
          const delta = d.softplus ? Math.log(1 + Math.exp(raw)) : raw;
          const x = value("x", row * dInner + c);
          h = Math.exp(delta * value("A", c * dState + n)) * h + delta * value("B", row * groups * dState + bc) * x;
          const skip = n === 0 ? value("D", c) * x : 0;
          const z = value("z", row * dInner + c);
          const gate = d.hasZ ? z / (1 + Math.exp(-z)) : 1;
          y[row * dInner + c]! += (value("C", row * groups * dState + bc) * h + skip) * gate;
        }
        finalState.push(h);
      }
  return { y, finalState };
}

const sizes: readonly Partial<SelectiveScanDescriptor>[] = [
  {},
  { length: 1 },
  { length: 0 },
  { batch: 0 },
  { batch: 1, length: 150, dInner: 3, dState: 5, groups: 1 },
  { batch: 1, length: 64, dInner: 2, dState: 1 },
  { batch: 3, length: 65, dInner: 6, dState: 2, groups: 3 },
];
const options: readonly Partial<SelectiveScanDescriptor>[] = [
  {},
  nothing,
  { ...nothing, hasZ: true },
  { ...nothing, hasD: true, hasMarks: true },
  { ...nothing, softplus: true, hasInitialState: true },
];

describe("forward", () => {
  // The definition gets the arguments as they are stored, so that what is left is the rounding of y and of the state.
  for (const [dtype, tolerance] of [
    ["float64", 1e-13],
    ["float32", 1e-6],
    ["bf16", 4e-3],
    ["f16", 5e-4],
  ] as const)
    test(dtype, async () => {
      for (const size of sizes)
        for (const option of options) {
          const d = { ...everything, ...size, ...option, dtype };
          const args = inPrecision(argumentsFor(d), dtype);
          const got = await outputsOf(backend, op, args, d, dtype);
          const want = definition(await rounded(backend, args, dtype), d);
          expect(relativeError(got["y"]!, want.y)).toBeLessThan(tolerance);
          expect(relativeError(got["finalState"]!, want.finalState)).toBeLessThan(dtype === "float64" ? 1e-13 : 1e-6);
        }
    });

  test("slices of the last axis are read where they lie", async () => {
    const d = { ...everything, batch: 2, length: 3, hasMarks: false };
    const args = argumentsFor(d);
    const whole = await outputsOf(backend, op, args, d);
    const wide = ["x", "delta", "B", "C", "z"] as const;
    expect(op.supports(d)).toEqual({ strided: expect.arrayContaining([...wide]) });
    // All five side by side in one buffer, with a column to spare on either side.
    const widths = wide.map((name) => args[name]!.shape[2]!);
    const rowStride = widths.reduce((sum, n) => sum + n, 2);
    const joined = new Array<number>(6 * rowStride).fill(Number.NaN);
    let start = 1;
    const offsets = wide.map((name, k) => {
      args[name]!.data.forEach((x, i) => {
        joined[Math.floor(i / widths[k]!) * rowStride + start + (i % widths[k]!)] = x;
      });
      start += widths[k]!;
      return start - widths[k]!;
    });
    const shared = upload(backend, joined, [6 * rowStride]);
    const rest = Object.fromEntries(
      ["A", "D", "deltaBias", "initialState"].map((name) => [
        name,
        upload(backend, args[name]!.data, args[name]!.shape),
      ]),
    );
    const slices = Object.fromEntries(
      wide.map((name, k) => [name, { ...shared, offset: offsets[k]!, rowStride, shape: args[name]!.shape }]),
    );
    const operands = { ...rest, ...slices } as never;
    const { outputs, saved } = op.forward(operands, d, { save: true });
    const gy = upload(backend, new Array<number>(24).fill(1), [2, 3, 4]);
    const grads = op.backward!(operands, d, {}, saved, { y: gy }, new Set(wide));
    const same = await gradientsOf(
      backend,
      op,
      args,
      d,
      { y: { data: new Array<number>(24).fill(1), shape: [2, 3, 4] } },
      wide,
    );
    for (const name of wide) expect(await take(backend, grads[name]!)).toEqual(same[name]);
    expect(await take(backend, outputs.y!)).toEqual(whole["y"]);
    expect(await take(backend, outputs.finalState!)).toEqual(whole["finalState"]);
    for (const buf of saved) backend.free(buf);
    freeAll(backend, [shared, gy, ...Object.values(rest)]);
  });

  test("only what the gradient needs is saved: states at checkpoints", async () => {
    const d = { ...everything, ...nothing, batch: 1, length: 130 };
    const operands = Object.fromEntries(
      Object.entries(argumentsFor(d)).map(([name, t]) => [name, upload(backend, t.data, t.shape)]),
    );
    const plain = op.forward(operands as never, d, { save: false });
    expect(plain.saved).toEqual([]);
    const { outputs, saved } = op.forward(operands as never, d, { save: true });
    expect(saved.map((buf) => buf.count)).toEqual([3 * d.dInner * d.dState]);
    for (const buf of [...Object.values(plain.outputs), ...Object.values(outputs), ...saved]) backend.free(buf!);
    freeAll(backend, Object.values(operands));
  });
});

describe("backward", () => {
  for (const [i, option] of options.entries())
    test(`central differences, options ${i}`, async () => {
      const d = { ...everything, ...option };
      for (const outputs of [["y", "finalState"], ["y"], ["finalState"]])
        if (!d.hasMarks || outputs.length === 2)
          await expectGradients(backend, op, withoutNaN(argumentsFor(d)), d, outputs);
    });

  test("central differences across a checkpoint", async () => {
    const d = { ...everything, batch: 1, length: 67, dInner: 2, dState: 1, groups: 1 };
    await expectGradients(backend, op, withoutNaN(argumentsFor(d)), d, ["y", "finalState"]);
  });

  test("padding is not read, and gets gradients of zero", async () => {
    const args = argumentsFor(everything);
    const weights: Arguments = { y: { data: args["x"]!.data.map(() => 1), shape: args["x"]!.shape } };
    const needs = Object.keys(args).filter((name) => name !== "marks");
    const [poisoned, clean] = [
      await gradientsOf(backend, op, args, everything, weights, needs),
      await gradientsOf(backend, op, withoutNaN(args), everything, weights, needs),
    ];
    expect(poisoned).toEqual(clean);
    const atPadding = poisoned["x"]!.filter((_, i) => Number.isNaN(args["x"]!.data[i]!));
    expect(atPadding.length).toBeGreaterThan(0);
    expect(atPadding.every((g) => g === 0)).toBe(true);
  });

  test("float32 and bf16 gradients are close to float64's, in their own precision", async () => {
    for (const [dtype, tolerance] of [
      ["float32", 1e-5],
      ["bf16", 3e-2],
    ] as const) {
      const d = { ...everything, batch: 1, length: 100 };
      const wide = withoutNaN(argumentsFor(d));
      const weights: Arguments = { y: { data: randomNumbers(8)(400), shape: [400] } };
      const needs = Object.keys(wide).filter((name) => name !== "marks");
      const want = await gradientsOf(backend, op, wide, d, weights, needs);
      const narrow = inPrecision(wide, dtype);
      const got = await gradientsOf(backend, op, narrow, { ...d, dtype }, weights, needs, dtype);
      for (const name of needs) expect(relativeError(got[name]!, want[name]!), name).toBeLessThan(tolerance);
    }
  });

  test("nothing comes of no tokens, but the state's gradient", async () => {
    const d = { ...everything, length: 0 };
    const args = argumentsFor(d);
    const weights: Arguments = { finalState: { data: randomNumbers(2)(24), shape: [2, 4, 3] } };
    const grads = await gradientsOf(backend, op, args, d, weights, ["x", "A", "initialState"]);
    expect(grads).toEqual({ x: [], A: new Array(12).fill(0), initialState: weights["finalState"]!.data });
  });
});

function withoutNaN(args: Arguments): Arguments {
  return Object.fromEntries(
    Object.entries(args).map(([name, t]) => [name, { ...t, data: t.data.map((x) => (Number.isNaN(x) ? 0.25 : x)) }]),
  );
}
