// The fused operations beside backend-cpu's, which compute in doubles, on shapes that fill registers, tiles and blocks and spill over.
import type { Backend, DType, Shape } from "@mamba-ts/backend";
import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { relativeError } from "@mamba-ts/backend-testing";
import * as t from "@mamba-ts/tensor";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createBackend } from "../src/index.js";
import { randomNumbers, sizeOf } from "./support.js";

let wasm: Backend;
const cpu = createCpuBackend();
beforeAll(async () => {
  wasm = await createBackend({ poison: true });
});
afterAll(() => wasm[Symbol.dispose]());

type Inputs = {
  readonly [name: string]: readonly [shape: Shape, low?: number, high?: number, dtype?: DType | undefined];
};
type Tensors = { [name: string]: t.Tensor };

/** Results and gradients (of the results weighted at random) on both backends; every kernel must have been used. */
async function same(inputs: Inputs, run: (x: Tensors) => Tensors, { forward = 3e-6, gradient = 2e-5 } = {}) {
  const random = randomNumbers(11);
  const data = Object.entries(inputs).map(([name, [shape, low = -1, high = 1, dtype]]) => {
    const values = Array.from({ length: sizeOf(shape) }, () => low + (high - low) * random());
    return [name, shape, dtype === "int32" ? values.map(Math.floor) : values, dtype] as const;
  });
  const results: { [name: string]: ArrayLike<number> }[] = [];
  for (const backend of [wasm, cpu]) {
    const before = backend.memory().liveBuffers;
    const composed: string[] = [];
    const made = t.watchDispatch(
      (event) => event.how === "composed" && backend === wasm && composed.push(`${event.op} ${event.direction}`),
      () =>
        t.scope(() => {
          const x = Object.fromEntries(
            data.map(([name, shape, values, dtype]) => {
              const wide = t.tensor(backend, values, shape, dtype === "int32" ? "int32" : "float32");
              return [name, dtype === undefined || dtype === "int32" ? wide : t.cast(wide, dtype)];
            }),
          );
          const wanted = Object.values(x).filter(({ dtype }) => dtype === "float32");
          const out: Tensors = t.scope(() => run(x));
          const { gradients } = t.valueAndGrad(() => {
            const weighted = Object.values(run(x)).map((y) => {
              const w = randomNumbers(5);
              const weights = Array.from({ length: sizeOf(y.shape) }, () => w() - 0.5);
              return t.sum(t.mul(y, t.tensor(backend, weights, y.shape)));
            });
            return { loss: weighted.reduce((a, b) => t.add(a, b)) };
          }, wanted);
          const names = Object.keys(x).filter((name) => x[name]!.dtype === "float32");
          return { out, grads: Object.fromEntries(names.map((name, i) => [`gradient of ${name}`, gradients[i]!])) };
        }),
    );
    expect(composed).toEqual([]);
    const read: { [name: string]: ArrayLike<number> } = {};
    for (const [name, tensor] of Object.entries({ ...made.out, ...made.grads })) {
      read[name] = await tensor.data();
      tensor.dispose();
    }
    expect(backend.memory().liveBuffers).toBe(before);
    results.push(read);
  }
  const [got, want] = results as [(typeof results)[0], (typeof results)[0]];
  for (const name of Object.keys(want))
    expect(relativeError(got[name]!, want[name]!), name).toBeLessThan(name.startsWith("gradient") ? gradient : forward);
}

function scanInputs(batch: number, length: number, dInner: number, dState: number, groups: number, low: number) {
  return {
    x: [[batch, length, dInner]],
    delta: [[batch, length, dInner], low, 1],
    A: [[dInner, dState], -dState, -0.5],
    B: [[batch, length, groups * dState]],
    C: [[batch, length, groups * dState]],
    D: [[dInner]],
    z: [[batch, length, dInner]],
    deltaBias: [[dInner], low < 0 ? -3 : 0, 0.1],
    initialState: [[batch, dInner, dState]],
  } as const;
}
const scan = (softplus: boolean) => (x: Tensors) => ({
  ...t.selectiveScan({ ...(x as unknown as t.SelectiveScanArguments), softplus }),
});

test("selectiveScan: whole tiles and blocks, and what is left over", async () => {
  await same(scanInputs(1, 64, 64, 16, 1, -2), scan(true));
  await same(scanInputs(2, 70, 39, 16, 1, -2), scan(true));
  await same(scanInputs(1, 33, 200, 5, 1, 0.01), scan(false));
  await same(scanInputs(2, 3, 18, 16, 1, -1), scan(true));
  await same(scanInputs(1, 40, 20, 64, 1, -1), scan(true));
  await same(scanInputs(2, 35, 96, 4, 2, -1), scan(true));
});

test("selectiveScan of slices, with marks", async () => {
  const marks = [-1, 0, 0, 1, 0, -1, 0, 0, 1, 1, 0, -1];
  await same({ packed: [[2, 6, 40 + 8 + 8]], z: [[2, 6, 50]], A: [[20, 8], -3, -1] }, ({ packed, z, A }) => {
    const [x, delta, B, C] = t.split(packed!, [20, 20, 8, 8]) as [t.Tensor, t.Tensor, t.Tensor, t.Tensor];
    const ids = t.tensor(packed!.backend, marks, [2, 6], "int32");
    const gate = t.slice(z!, 2, 30, 50);
    return { ...t.selectiveScan({ x, delta, B, C, A: A!, z: gate, marks: ids, softplus: true }) };
  });
});

test("selectiveScan: an A that grows, and decays to nothing", async () => {
  const rising = { ...scanInputs(1, 6, 20, 4, 1, 0.001), A: [[20, 4], -400, 2] } as const;
  await same(rising, scan(false), { forward: 1e-5, gradient: 1e-4 });
});

test("causalConv1d", async () => {
  for (const [length, channels, width] of [
    [40, 37, 4],
    [3, 64, 4],
    [9, 6, 7],
    // Few enough tokens that threads share the channels.
    [5, 331, 4],
    [2, 201, 3],
    [7, 6, 7],
  ] as const)
    await same(
      {
        x: [[2, length, channels]],
        weight: [[channels, width]],
        bias: [[channels]],
        initialState: [[2, width - 1, channels]],
      },
      (x) => ({
        ...t.causalConv1d({ ...(x as unknown as Parameters<typeof t.causalConv1d>[0]), activation: "silu" }),
      }),
    );
});

test("norms and the gate", async () => {
  for (const width of [1, 6, 64, 203])
    for (const norm of [t.rmsNorm, t.layerNorm]) {
      const bias = norm === t.layerNorm ? { bias: [[width]] as const } : {};
      const limits = width === 1 ? { forward: 1e-4, gradient: 1e-2 } : {};
      await same(
        { x: [[5, width]], residual: [[5, width]], weight: [[width]], ...bias },
        (x) => ({ ...norm({ ...(x as unknown as Parameters<typeof t.rmsNorm>[0]), eps: 1e-3 }) }) as unknown as Tensors,
        limits,
      );
    }
  await same({ y: [[7, 33]], x: [[7, 33]], D: [[33]], zs: [[7, 66]] }, ({ y, x, D, zs }) => ({
    out: t.gatedOutput({ y: y!, x, D, z: t.slice(zs!, 1, 33, 66) }),
  }));
});

test("linear in every weight format, for one row and for many", async () => {
  for (const rows of [1, 3, 4, 5, 130])
    for (const dtype of [undefined, "bf16", "f16"] as const)
      await same(
        { x: [[rows, 96]], w: [[50, 96], -1, 1, dtype], bias: [[50]] },
        ({ x, w, bias }) => ({ y: t.linear(x!, w!, { bias }) }),
        {},
      );
  // Many short rows.
  await same({ x: [[1, 48]], w: [[1101, 48]] }, ({ x, w }) => ({ y: t.linear(x!, w!) }));
  for (const rows of [1, 4, 9])
    await same({ w: [[37, 96], -1, 1, "q8_0"], unused: [[1]] }, ({ w, unused }) => {
      const x = t.tensor(
        w!.backend,
        Array.from({ length: rows * 96 }, (_, i) => Math.sin(i)),
        [rows, 96],
      );
      return { y: t.add(t.linear(x, w!), unused!) };
    });
});

test("linear with weights in q8_0: every block has a scale of its own, on both sides", async () => {
  // More columns than are prepared at a time; weights whose scales are subnormal in f16, and rows that no group of streams shares.
  for (const [rows, columns, high] of [
    [1, 4128, 1],
    [2, 96, 1e-4],
  ] as const)
    await same({ w: [[21, columns], -high, high, "q8_0"], unused: [[1], 0, 0] }, ({ w, unused }) => {
      const value = (i: number): number => Math.sin(i) * 10 ** ((Math.floor(i / 32) % 9) - 4);
      const x = t.tensor(
        w!.backend,
        Array.from({ length: rows * columns }, (_, i) => value(i)),
        [rows, columns],
      );
      return { y: t.add(t.linear(x, w!), unused!) };
    });
  using w = t.cast(t.fill(wasm, [9, 64], 1), "q8_0");
  for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
    using x = t.tensor(
      wasm,
      Array.from({ length: 64 }, (_, i) => (i === 40 ? bad : 1)),
      [1, 64],
    );
    using y = t.linear(x, w);
    for (const value of await y.data()) expect(value).toBeNaN();
  }
});

test("linearCrossEntropy: more rows than a block, targets ignored and past the vocabulary", async () => {
  await same(
    { hidden: [[230, 24]], weight: [[11000, 24]], targets: [[230], -1, 11001, "int32"] },
    ({ hidden, weight, targets }) => ({ loss: t.linearCrossEntropy(hidden!, weight!, targets!) }),
  );
});

test("attention: more keys than a block, grouped heads, segments", async () => {
  const shapes = { q: [[2, 70, 6, 20]], k: [[2, 150, 2, 20]], v: [[2, 150, 2, 20]] } as const;
  const run = (causal: boolean) => (x: Tensors) => ({
    y: t.attention({ ...(x as unknown as Parameters<typeof t.attention>[0]), causal }),
  });
  await same(shapes, run(true));
  await same(shapes, run(false));
  const ids = { querySegments: [[2, 70], -1, 3, "int32"], keySegments: [[2, 150], -1, 3, "int32"] } as const;
  await same({ ...shapes, ...ids }, run(true));
});

test("Fourier transforms both ways: every radix, odd lengths, Bluestein's, rows that fill no quad, the length of S4 on MNIST", async () => {
  for (const n of [1, 2, 3, 5, 14, 27, 1000, 2 * 1009, 1013, 1600])
    await same({ x: [[n === 1600 ? 70 : 5, n]] }, ({ x }) => ({ y: t.rfft(x!) }));
  for (const n of [1, 2, 3, 12, 2 * 1009, 1013, 1568])
    await same({ y: [[n === 1568 ? 67 : 6, Math.floor(n / 2) + 1, 2]] }, ({ y }) => ({ x: t.irfft(y!, n) }));
});

test("fftConvolution: slices of wider rows, several channels, kernels that reach ahead, lengths that need Bluestein", async () => {
  for (const [batch, length, heads, channels, taps, size] of [
    [3, 784, 6, 1, 784, undefined],
    [2, 100, 9, 2, 40, undefined],
    [2, 53, 3, 2, 106, 106],
    [1, 1009, 2, 1, 1009, 2018],
  ] as const)
    await same({ wide: [[batch, length, heads + 3]], kernel: [[channels, heads, taps]] }, ({ wide, kernel }) => ({
      y: t.fftConvolution(t.slice(wide!, 2, 1, heads + 1), kernel!, size === undefined ? {} : { size }),
    }));
});

test("moe: experts with many rows, few and none, in every activation", async () => {
  for (const activation of ["relu", "silu", "gelu"] as const)
    for (const gated of [true, false])
      await same(
        {
          x: [[150, 37]],
          indices: [[150, 2], -1, 3, "int32"],
          weights: [[150, 2]],
          ...(gated ? { gate: [[5, 21, 37]] as const } : {}),
          up: [[5, 21, 37]],
          down: [[5, 37, 21]],
        },
        (x) => ({ y: t.moe({ ...(x as unknown as Parameters<typeof t.moe>[0]), activation }) }),
      );
});
