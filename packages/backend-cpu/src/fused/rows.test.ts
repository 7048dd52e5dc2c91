/** The fused operations on independent rows: norms, the gate, and the two that are matrix products. */
import type { DType, FloatDType } from "@mamba-ts/backend";
import { describe, expect, test } from "vitest";
import {
  type Arguments,
  expectGradients,
  freeAll,
  gradientsOf,
  operandOf,
  outputsOf,
  poisonedBackend,
  randomNumbers,
  relativeError,
  rounded,
  take,
  upload,
} from "../../test/support.js";

const backend = poisonedBackend();
const fused = backend.fused!;
const random = randomNumbers(4);
const matrix = (rows: number, columns: number, dtype?: DType) => ({
  data: random(rows * columns),
  shape: [rows, columns],
  ...(dtype === undefined ? {} : { dtype }),
});
const vector = (n: number) => ({ data: random(n), shape: [n] });
const precisions = [
  ["float64", 1e-13],
  ["float32", 2e-6],
  ["bf16", 8e-3],
  ["f16", 1e-3],
] as const;

describe("rmsNorm and layerNorm", () => {
  for (const name of ["rmsNorm", "layerNorm"] as const)
    for (const extras of [[], ["weight"], ["weight", "residual"], ["residual"], ["weight", "bias", "residual"]])
      if (name === "layerNorm" || !extras.includes("bias"))
        describe(`${name} with ${extras.join(", ") || "nothing else"}`, () => {
          const describeFor = (rows: number, width: number, dtype: FloatDType) => ({
            rows,
            width,
            dtype,
            residualDtype: dtype === "float64" ? dtype : ("float32" as const),
            eps: 1e-2,
            hasWeight: extras.includes("weight"),
            hasBias: extras.includes("bias"),
            hasResidual: extras.includes("residual"),
          });
          const make = (rows: number, width: number, residual: FloatDType): Arguments => ({
            x: matrix(rows, width),
            ...(extras.includes("weight") ? { weight: vector(width) } : {}),
            ...(extras.includes("bias") ? { bias: vector(width) } : {}),
            ...(extras.includes("residual") ? { residual: matrix(rows, width, residual) } : {}),
          });

          for (const [dtype, tolerance] of precisions)
            test(`forward ${dtype}`, async () => {
              for (const [rows, width] of [
                [3, 5],
                [1, 1],
                [0, 4],
                [2, 33],
              ] as const) {
                const d = describeFor(rows, width, dtype);
                const args = make(rows, width, d.residualDtype);
                const { x, weight, bias, residual } = await rounded(backend, args, dtype);
                const sum = x!.data.map((v, i) => v + (residual?.data[i] ?? 0));
                const y = sum.map((_, i) => {
                  const row = sum.slice(i - (i % width), i - (i % width) + width);
                  const mean = name === "layerNorm" ? row.reduce((s, v) => s + v, 0) / width : 0;
                  const variance = row.reduce((s, v) => s + (v - mean) ** 2, 0) / width;
                  return (
                    ((sum[i]! - mean) / Math.sqrt(variance + d.eps)) * (weight?.data[i % width] ?? 1) +
                    (bias?.data[i % width] ?? 0)
                  );
                });
                const got = await outputsOf(backend, fused[name], args, d, dtype);
                expect(relativeError(got["y"]!, y)).toBeLessThan(tolerance);
                if (d.hasResidual)
                  expect(relativeError(got["sum"]!, sum)).toBeLessThan(dtype === "float64" ? 1e-15 : 1e-6);
                else expect(got["sum"]).toBeUndefined();
              }
            });

          test("gradients", async () => {
            const d = describeFor(2, 5, "float64");
            for (const outputs of d.hasResidual ? [["y", "sum"], ["y"], ["sum"]] : [["y"]])
              await expectGradients(backend, fused[name], make(2, 5, "float64"), d, outputs);
          });
        });
});

describe("gatedOutput", () => {
  for (const [hasD, hasZ] of [
    [true, true],
    [true, false],
    [false, true],
    [false, false],
  ] as const) {
    const make = (rows: number, channels: number): Arguments => ({
      y: matrix(rows, channels),
      ...(hasD ? { x: matrix(rows, channels), D: vector(channels) } : {}),
      ...(hasZ ? { z: matrix(rows, channels) } : {}),
    });
    for (const [dtype, tolerance] of precisions)
      test(`forward ${hasD ? "D " : ""}${hasZ ? "z " : ""}${dtype}`, async () => {
        for (const [rows, channels] of [
          [3, 5],
          [0, 2],
          [1, 1],
        ] as const) {
          const args = make(rows, channels);
          const { y, x, D, z } = await rounded(backend, args, dtype);
          const want = y!.data.map((v, i) => {
            const skipped = v + (D?.data[i % channels] ?? 0) * (x?.data[i] ?? 0);
            return z === undefined ? skipped : (skipped * z.data[i]!) / (1 + Math.exp(-z.data[i]!));
          });
          const got = await outputsOf(backend, fused.gatedOutput, args, { rows, channels, dtype, hasD, hasZ }, dtype);
          expect(relativeError(got["out"]!, want)).toBeLessThan(tolerance);
        }
      });
    test(`gradients ${hasD ? "D " : ""}${hasZ ? "z" : ""}`, () =>
      expectGradients(backend, fused.gatedOutput, make(3, 4), { rows: 3, channels: 4, dtype: "float64", hasD, hasZ }, [
        "out",
      ]));
  }
});

describe("linear", () => {
  const d = {
    rows: 3,
    inFeatures: 5,
    outFeatures: 7,
    dtype: "float64",
    weightDtype: "float64",
    out: "float64",
    hasBias: true,
  } as const;
  const args: Arguments = { x: matrix(3, 5), weight: matrix(7, 5), bias: vector(7) };

  test("gradients", async () => {
    await expectGradients(backend, fused.linear, args, d, ["y"]);
    const { bias: _, ...rest } = args;
    await expectGradients(backend, fused.linear, rest, { ...d, hasBias: false }, ["y"]);
  });

  for (const weightDtype of ["float64", "float32", "bf16", "f16", "q8_0"] as const)
    test(`a weight of ${weightDtype}, more rows than are decoded at once`, async () => {
      for (const rows of [0, 1, 3, 9]) {
        const [inFeatures, outFeatures] = [64, 259];
        const own: Arguments = {
          x: matrix(rows, inFeatures),
          weight: matrix(outFeatures, inFeatures, weightDtype),
          bias: vector(outFeatures),
        };
        const { x, weight, bias } = await rounded(backend, own, "float32");
        const want = Array.from({ length: rows * outFeatures }, (_, i) => {
          const [r, o] = [Math.floor(i / outFeatures), i % outFeatures];
          let sum = bias!.data[o]!;
          for (let k = 0; k < inFeatures; k++) sum += x!.data[r * inFeatures + k]! * weight!.data[o * inFeatures + k]!;
          return sum;
        });
        const descriptor = {
          rows,
          inFeatures,
          outFeatures,
          dtype: "float32",
          weightDtype,
          out: "float32",
          hasBias: true,
        } as const;
        expect(fused.linear!.supports(descriptor)).not.toBe(false);
        expect(fused.linear!.supportsBackward!(descriptor)).toBe(weightDtype !== "q8_0");
        const got = await outputsOf(backend, fused.linear, own, descriptor, "float32");
        expect(relativeError(got["y"]!, want)).toBeLessThan(1e-6);
      }
    });

  test("x may be a slice of its last axis", async () => {
    const wide = upload(backend, random(3 * 9), [3, 9]);
    const [weight, bias] = [upload(backend, args["weight"]!.data, [7, 5]), upload(backend, args["bias"]!.data, [7])];
    const slice = { ...wide, offset: 2, rowStride: 9, shape: [3, 5] };
    const dense = operandOf(
      backend.copy({ buf: wide.buf, offset: 2, shape: [3, 5], strides: [9, 1], dtype: "float64" }),
      [3, 5],
    );
    const g = upload(backend, random(21), [3, 7]);
    const results: number[][][] = [];
    for (const x of [slice, dense]) {
      const { outputs } = fused.linear!.forward({ x, weight, bias }, d, { save: false });
      const grads = fused.linear!.backward!({ x, weight, bias }, d, {}, [], { y: g }, new Set(["x", "weight"]));
      results.push(await Promise.all([outputs.y!, grads.x!, grads.weight!].map((buf) => take(backend, buf))));
    }
    expect(results[0]).toEqual(results[1]);
    freeAll(backend, [wide, weight, bias, dense, g]);
  });
});

describe("linearCrossEntropy", () => {
  const make = (rows: number, width: number, vocab: number): Arguments => ({
    hidden: matrix(rows, width),
    weight: matrix(vocab, width),
    targets: {
      data: Array.from({ length: rows }, (_, i) => (i % 4 === 2 ? -1 : (i * 5) % vocab)),
      shape: [rows],
      dtype: "int32",
    },
  });
  const definition = ({ hidden, weight, targets }: Arguments, width: number): number[] =>
    targets!.data.map((target, r) => {
      if (target < 0) return 0;
      const logits = Array.from({ length: weight!.shape[0]! }, (_, v) => {
        let sum = 0;
        for (let k = 0; k < width; k++) sum += hidden!.data[r * width + k]! * weight!.data[v * width + k]!;
        return sum;
      });
      return Math.log(logits.reduce((s, x) => s + Math.exp(x), 0)) - (logits[target] ?? 0);
    });

  for (const [dtype, tolerance] of [
    ["float64", 1e-13],
    ["float32", 1e-6],
    ["bf16", 1e-6],
    ["f16", 1e-6],
  ] as const)
    test(`forward ${dtype}`, async () => {
      // The last has more rows than the logits of one block.
      for (const [rows, width, vocab] of [
        [7, 5, 11],
        [1, 1, 2],
        [0, 3, 4],
        [70, 2, 5003],
      ] as const) {
        const args = make(rows, width, vocab);
        const got = await outputsOf(backend, fused.linearCrossEntropy, args, { rows, width, vocab, dtype }, dtype);
        expect(relativeError(got["loss"]!, definition(await rounded(backend, args, dtype), width))).toBeLessThan(
          tolerance,
        );
      }
    });

  test("gradients", () =>
    expectGradients(
      backend,
      fused.linearCrossEntropy,
      make(7, 3, 6),
      { rows: 7, width: 3, vocab: 6, dtype: "float64" },
      ["loss"],
    ));

  test("gradients of many blocks are those of one", async () => {
    const [rows, width, vocab] = [70, 2, 5003];
    const args = make(rows, width, vocab);
    const g = random(rows);
    const d = { rows, width, vocab, dtype: "float64" as const };
    const whole = await gradientsOf(backend, fused.linearCrossEntropy, args, d, { loss: { data: g, shape: [rows] } }, [
      "hidden",
      "weight",
    ]);
    const hidden: number[] = [];
    const weight = new Array<number>(vocab * width).fill(0);
    for (let r = 0; r < rows; r++) {
      const one: Arguments = {
        hidden: { data: args["hidden"]!.data.slice(r * width, (r + 1) * width), shape: [1, width] },
        weight: args["weight"]!,
        targets: { data: [args["targets"]!.data[r]!], shape: [1], dtype: "int32" },
      };
      const grads = await gradientsOf(
        backend,
        fused.linearCrossEntropy,
        one,
        { ...d, rows: 1 },
        { loss: { data: [g[r]!], shape: [1] } },
        ["hidden", "weight"],
      );
      hidden.push(...grads["hidden"]!);
      grads["weight"]!.forEach((v, i) => {
        weight[i]! += v;
      });
    }
    expect(relativeError(whole["hidden"]!, hidden)).toBeLessThan(1e-13);
    expect(relativeError(whole["weight"]!, weight)).toBeLessThan(1e-13);
  });

  test("a target past the vocabulary counts as a logit of 0, as in the composition, and touches no other row", async () => {
    const args: Arguments = { ...make(3, 2, 4), targets: { data: [1, 4, 2 ** 31 - 1], shape: [3], dtype: "int32" } };
    const d = { rows: 3, width: 2, vocab: 4, dtype: "float64" as const };
    const got = await outputsOf(backend, fused.linearCrossEntropy, args, d);
    expect(relativeError(got["loss"]!, definition(args, 2))).toBeLessThan(1e-13);
    await expectGradients(backend, fused.linearCrossEntropy, args, d, ["loss"]);
  });

  test("large logits do not overflow", async () => {
    const args: Arguments = {
      hidden: { data: [1000], shape: [1, 1] },
      weight: { data: [1, 0.5], shape: [2, 1] },
      targets: { data: [1], shape: [1], dtype: "int32" },
    };
    const got = await outputsOf(
      backend,
      fused.linearCrossEntropy,
      args,
      { rows: 1, width: 1, vocab: 2, dtype: "float32" },
      "float32",
    );
    expect(got["loss"]).toEqual([500]);
  });
});
