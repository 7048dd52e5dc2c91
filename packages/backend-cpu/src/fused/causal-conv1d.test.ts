import type { CausalConv1dDescriptor } from "@mamba-ts/backend";
import { describe, expect, test } from "vitest";
import {
  type Arguments,
  expectGradients,
  outputsOf,
  poisonedBackend,
  randomNumbers,
  relativeError,
  rounded,
} from "../../test/support.js";

const backend = poisonedBackend();
const op = backend.fused!.causalConv1d!;

const everything: CausalConv1dDescriptor = {
  batch: 2,
  length: 6,
  channels: 3,
  width: 4,
  dtype: "float64",
  activation: "silu",
  hasBias: true,
  hasInitialState: true,
  hasMarks: true,
};
const cases: readonly Partial<CausalConv1dDescriptor>[] = [
  {},
  { activation: "none", hasBias: false, hasInitialState: false, hasMarks: false },
  { hasMarks: false },
  { hasInitialState: false },
  { hasBias: false, activation: "none" },
  { length: 1 },
  { length: 2, hasMarks: false },
  { width: 1 },
  { width: 2, length: 40, channels: 1 },
  { length: 0 },
  { batch: 0 },
];

function argumentsFor(d: CausalConv1dDescriptor, padding = Number.NaN): Arguments {
  const random = randomNumbers(3);
  const { batch, length, channels, width } = d;
  const marks = Array.from({ length: batch * length }, (_, i) => [0, 0, -1, 1, 0, -1, 0, 0, 0][(i * 4) % 9]!);
  return {
    x: {
      shape: [batch, length, channels],
      data: random(batch * length * channels).map((x, i) =>
        d.hasMarks && marks[Math.floor(i / channels)] === -1 ? padding : x,
      ),
    },
    weight: { shape: [channels, width], data: random(channels * width) },
    ...(d.hasBias ? { bias: { shape: [channels], data: random(channels) } } : {}),
    ...(d.hasInitialState
      ? { initialState: { shape: [batch, width - 1, channels], data: random(batch * (width - 1) * channels) } }
      : {}),
    ...(d.hasMarks ? { marks: { shape: [batch, length], data: marks, dtype: "int32" } } : {}),
  };
}

/** Each row as a list of the real tokens so far, which its windows look back on. */
function definition(args: Arguments, d: CausalConv1dDescriptor): { y: number[]; finalState: number[] } {
  const { batch, length, channels, width } = d;
  const y = new Array<number>(batch * length * channels).fill(0);
  const finalState: number[] = [];
  const token = (data: readonly number[], row: number): number[] => data.slice(row * channels, (row + 1) * channels);
  for (let b = 0; b < batch; b++) {
    const zeros = Array.from({ length: width - 1 }, () => new Array<number>(channels).fill(0));
    let seen = zeros.map((zero, k) =>
      args["initialState"] === undefined ? zero : token(args["initialState"].data, b * (width - 1) + k),
    );
    for (let t = 0; t < length; t++) {
      const mark = args["marks"]?.data[b * length + t] ?? 0;
      if (mark === -1) continue;
      if (mark === 1) seen = zeros.slice();
      seen.push(token(args["x"]!.data, b * length + t));
      const window = seen.slice(-width);
      for (let c = 0; c < channels; c++) {
        const sum = window.reduce(
          (s, x, k) => s + args["weight"]!.data[c * width + k]! * x[c]!,
          args["bias"]?.data[c] ?? 0,
        );
        y[(b * length + t) * channels + c] = d.activation === "silu" ? sum / (1 + Math.exp(-sum)) : sum;
      }
    }
    if (width > 1) finalState.push(...seen.slice(1 - width).flat());
  }
  return { y, finalState };
}

describe("forward", () => {
  for (const [dtype, tolerance] of [
    ["float64", 1e-14],
    ["float32", 1e-6],
    ["bf16", 4e-3],
    ["f16", 5e-4],
  ] as const)
    test(dtype, async () => {
      for (const change of cases) {
        const d = { ...everything, ...change, dtype };
        const args = argumentsFor(d);
        const got = await outputsOf(backend, op, args, d, dtype);
        const want = definition(await rounded(backend, args, dtype), d);
        expect(relativeError(got["y"]!, want.y)).toBeLessThan(tolerance);
        expect(got["finalState"]).toEqual(want.finalState);
      }
    });
});

describe("backward", () => {
  for (const [i, change] of cases.entries())
    test(`central differences, case ${i}`, async () => {
      const d = { ...everything, ...change };
      for (const outputs of [["y", "finalState"], ["y"], ["finalState"]])
        await expectGradients(backend, op, argumentsFor(d, 0.3), d, outputs);
    });
});
