/** Sizes past what one workgroup, one stretch or one tile holds, against the CPU backend in float64. */
import type { Backend, DType, SelectiveScanDescriptor } from "@mamba-ts/backend";
import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { createBackend } from "@mamba-ts/backend-webgpu";
import * as t from "@mamba-ts/tensor";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { backendOn } from "../src/backend.js";
import { fusedOps } from "../src/fused/index.js";
import { scanSegments } from "../src/fused/selective-scan-backward.js";
import { Gpu } from "../src/gpu/gpu.js";
import { WebGpuMemory } from "../src/storage.js";
import { adapterMissing } from "./adapter.js";
import { relativeError } from "./support.js";

type Inputs = {
  readonly [name: string]: { readonly shape: readonly number[]; readonly data: Float64Array | Int32Array };
};
/** Of a scan with everything. */
const descriptorOf = (batch: number, length: number, dInner: number, dState: number): SelectiveScanDescriptor => ({
  ...{ batch, length, dInner, dState, groups: 1, dtype: "float32", softplus: true },
  ...{ hasD: true, hasZ: true, hasDeltaBias: true, hasInitialState: true, hasMarks: true },
});
type Tensors = { readonly [name: string]: t.Tensor };

const rng = new t.Rng(11);
const normal = (...shape: number[]) => ({ shape, data: rng.normal(t.sizeOf(shape)).map(Math.fround) });
const uniform = (low: number, high: number, ...shape: number[]) => ({
  shape,
  data: rng.uniform(t.sizeOf(shape)).map((u) => Math.fround(low + (high - low) * u)),
});
const integers = (low: number, high: number, ...shape: number[]) => ({
  shape,
  data: Int32Array.from(rng.integers(t.sizeOf(shape), high - low), (i) => i + low),
});

describe.skipIf(adapterMissing !== undefined)("sizes", () => {
  let gpu: Backend;
  const cpu = createCpuBackend();
  beforeAll(async () => {
    gpu = await createBackend({ poison: true });
  });
  afterAll(() => {
    expect(gpu.memory().liveBuffers).toBe(0);
    gpu[Symbol.dispose]();
  });

  async function results(backend: Backend, dtype: DType, inputs: Inputs, run: (x: Tensors) => Tensors) {
    const outputs = t.scope(() =>
      run(
        Object.fromEntries(
          Object.entries(inputs).map(([name, { data, shape }]) => [
            name,
            t.tensor(backend, data, shape, data instanceof Int32Array ? "int32" : (dtype as "float32")),
          ]),
        ),
      ),
    );
    const values: { [name: string]: ArrayLike<number> } = {};
    for (const [name, tensor] of Object.entries(outputs)) values[name] = await tensor.data();
    for (const tensor of Object.values(outputs)) tensor.dispose();
    return values;
  }

  async function agrees(inputs: Inputs, run: (x: Tensors) => Tensors, limit = 2e-5): Promise<void> {
    const [got, want] = [await results(gpu, "float32", inputs, run), await results(cpu, "float64", inputs, run)];
    for (const name of Object.keys(want))
      expect([name, relativeError(got[name]!, want[name]!) < limit, relativeError(got[name]!, want[name]!)]).toEqual([
        name,
        true,
        expect.anything(),
      ]);
  }

  const weighing = (y: t.Tensor): t.Tensor =>
    t.tensor(y.backend, new t.Rng(5).normal(y.size).map(Math.fround), y.shape, y.dtype as "float32");

  /** Gradients of a random weighing of every output. */
  function gradients(run: (x: Tensors) => Tensors): (x: Tensors) => Tensors {
    return (x) => {
      const names = Object.keys(x).filter((name) => x[name]!.dtype !== "int32");
      const result = t.valueAndGrad(
        () => ({
          loss: Object.values(run(x))
            .map((y) => t.sum(t.mul(y, weighing(y))))
            .reduce((a, b) => t.add(a, b)),
        }),
        names.map((name) => x[name]!),
      );
      return Object.fromEntries(names.map((name, i) => [`g${name}`, result.gradients[i]!]));
    };
  }

  test.each([
    [130, 70, 300],
    [1, 129, 70],
    [70, 1, 1030],
    [257, 200, 33],
    [33, 40, 5000],
    [2100, 1100, 9],
    [132, 260, 308],
    [1028, 1036, 12],
  ])("matmul %i x %i x %i", async (m, n, k) => {
    await agrees({ a: normal(m, k), b: normal(k, n) }, ({ a, b }) => ({ y: t.matmul(a!, b!) }));
    await agrees({ a: normal(k, m), b: normal(n, k) }, ({ a, b }) => ({
      y: t.matmul(a!, b!, { transA: true, transB: true }),
    }));
    await agrees({ a: normal(k, m), b: normal(k, n) }, ({ a, b }) => ({ y: t.matmul(a!, b!, { transA: true }) }));
    await agrees({ a: normal(m, k), b: normal(n, k) }, ({ a, b }) => ({ y: t.matmul(a!, b!, { transB: true }) }));
  });

  test("batches of products, shared and not", async () => {
    await agrees({ a: normal(3, 2, 65, 20), b: normal(2, 20, 70) }, ({ a, b }) => ({ y: t.matmul(a!, b!) }));
    await agrees({ a: normal(3, 1, 65, 20), b: normal(20, 70) }, ({ a, b }) => ({ y: t.matmul(a!, b!) }));
  });

  test.each(["float32", "f16", "bf16", "q8_0"] as const)(
    "linear with %s weights, few rows and many",
    async (format) => {
      for (const [rows, k, n] of [
        [1, 768, 70],
        [3, 96, 300],
        [70, 160, 90],
      ] as const) {
        const inputs = { x: normal(rows, k), w: normal(n, k), bias: normal(n) };
        await agrees(
          inputs,
          ({ x, w, bias }) => {
            // Both sides see what the format keeps of the weight.
            const stored = t.cast(t.cast(w!, "float32"), format);
            const wide = x!.dtype === "float64" ? t.cast(t.cast(stored, "float32"), "float64") : stored;
            return { y: t.linear(x!, wide, { bias: bias! }) };
          },
          format === "q8_0" ? 1e-3 : 2e-5,
        );
      }
      if (format !== "q8_0" && format !== "float32")
        await agrees({ x: normal(3, 31), w: normal(5, 31) }, ({ x, w }) => {
          const stored = t.cast(t.cast(w!, "float32"), format);
          return { y: t.linear(x!, x!.dtype === "float64" ? t.cast(t.cast(stored, "float32"), "float64") : stored) };
        });
    },
  );

  const marks = (batch: number, length: number) => ({
    shape: [batch, length],
    data: Int32Array.from(rng.integers(batch * length, 40), (k) => (k === 0 ? 1 : k < 4 ? -1 : 0)),
  });
  const scanInputs = (batch: number, length: number, dInner: number, dState: number, groups: number) => ({
    x: normal(batch, length, dInner),
    delta: uniform(-4, 1, batch, length, dInner),
    A: uniform(-dState, -0.5, dInner, dState),
    B: normal(batch, length, groups * dState),
    C: normal(batch, length, groups * dState),
    D: normal(dInner),
    z: normal(batch, length, dInner),
    deltaBias: normal(dInner),
    initialState: normal(batch, dInner, dState),
  });
  const scan = (x: Tensors): Tensors => ({
    ...t.selectiveScan({ ...(x as never as t.SelectiveScanArguments), softplus: true }),
  });

  test.each([
    [2, 700, 70, 16, 1],
    [1, 1500, 6, 5, 3],
    [1, 300, 40, 33, 1],
    [3, 33, 128, 16, 2],
  ])(
    "selective scan: batch %i length %i dInner %i dState %i groups %i",
    async (batch, length, dInner, dState, groups) => {
      const inputs = scanInputs(batch, length, dInner, dState, groups);
      await agrees(inputs, scan);
      await agrees(inputs, gradients(scan), 2e-4);
      const marked = { ...inputs, marks: marks(batch, length) };
      await agrees(marked, scan);
      await agrees(marked, gradients(scan), 2e-4);
    },
  );

  test("a selective scan whose kept states and gradients are too large for one buffer", async () => {
    // Such a device is asked for by its limit: the real ones start at 128 MiB.
    const opened = await Gpu.open({});
    Object.defineProperty(opened, "maxBufferBytes", { value: 200_000 });
    const memory = new WebGpuMemory(opened, { poison: true });
    const limited = backendOn(opened, memory, fusedOps(memory));
    const [roomy, inputs] = [gpu, { ...scanInputs(2, 300, 40, 16, 1), marks: marks(2, 300) }];
    expect(scanSegments(memory, descriptorOf(2, 300, 40, 16))).toHaveLength(4);
    gpu = limited;
    try {
      await agrees(inputs, scan);
      await agrees(inputs, gradients(scan), 2e-4);
      await agrees(
        inputs,
        gradients(({ x, delta, A, B, C }) => ({
          y: t.selectiveScan({ x, delta, A, B, C, softplus: true } as never).y,
        })),
        2e-4,
      );
      expect(limited.memory().liveBuffers).toBe(0);
    } finally {
      gpu = roomy;
      limited[Symbol.dispose]();
    }
    expect(scanSegments(memory, descriptorOf(64, 300, 4000, 16))).toBeUndefined();
  });

  test.each([
    [1, 1001],
    [3, 40],
    [5, 37],
  ])("copies of %i rows of %i words, whole and cut", async (rows, width) => {
    await agrees(
      { x: normal(rows + 2, width + 4) },
      ({ x }) => ({
        whole: t.copy(x!),
        tail: t.copy(t.slice(x!, 0, 2)),
        fours: t.copy(t.slice(x!, 1, 4)),
        odd: t.copy(t.slice(x!, 1, 1, width)),
        joined: t.concat([x!, t.slice(x!, 1, 0, 4)], 1),
      }),
      1e-30,
    );
  });

  test.each([1, 4])("causal convolution, width %i", async (width) => {
    const inputs = {
      x: normal(2, 500, 130),
      weight: normal(130, width),
      bias: normal(130),
      initialState: normal(2, width - 1, 130),
    };
    const conv = (x: Tensors): Tensors => ({
      ...t.causalConv1d({ ...(x as never as Parameters<typeof t.causalConv1d>[0]), activation: "silu" }),
    });
    await agrees(inputs, conv);
    await agrees(inputs, gradients(conv), 2e-4);
    await agrees({ ...inputs, marks: marks(2, 500) }, gradients(conv), 2e-4);
  });

  test.each([
    [130, 130, 4, 2, true],
    [1, 200, 4, 1, true],
    [70, 90, 2, 2, false],
  ])("attention: %i queries, %i keys, %i heads of %i, causal %s", async (queries, keys, heads, kvHeads, causal) => {
    const inputs = {
      q: normal(2, queries, heads, 80),
      k: normal(2, keys, kvHeads, 80),
      v: normal(2, keys, kvHeads, 80),
    };
    const run = ({ q, k, v }: Tensors): Tensors => ({ y: t.attention({ q: q!, k: k!, v: v!, causal }) });
    await agrees(inputs, run);
    await agrees(inputs, gradients(run), 2e-4);
  });

  test("norms of long and many rows", async () => {
    for (const norm of [t.rmsNorm, t.layerNorm]) {
      const inputs = { x: normal(300, 700), residual: normal(300, 700), weight: normal(700) };
      const run = (x: Tensors): Tensors => {
        const { y, sum } = norm({ x: x["x"]!, residual: x["residual"]!, weight: x["weight"]!, eps: 1e-5 });
        return { y, sum: sum! };
      };
      await agrees(inputs, run);
      await agrees(inputs, gradients(run), 2e-4);
    }
  });

  test("cross-entropy of a large vocabulary", async () => {
    const inputs = { hidden: normal(150, 64), weight: normal(3000, 64), targets: integers(-1, 3000, 150) };
    const loss = ({ hidden, weight, targets }: Tensors): Tensors => ({
      loss: t.linearCrossEntropy(hidden!, weight!, targets!),
    });
    await agrees(inputs, loss);
    await agrees(inputs, gradients(loss), 2e-4);
  });

  test("reductions, scans and scatters along long axes", async () => {
    await agrees({ x: normal(3, 70_000) }, ({ x }) => ({ sum: t.sum(x!, 1), max: t.max(x!, 1), arg: t.argMax(x!, 1) }));
    await agrees({ x: normal(5000, 7) }, ({ x }) => ({ sum: t.sum(x!, 0), max: t.max(x!, 0), arg: t.argMin(x!, 0) }));
    await agrees({ a: uniform(-1, 1, 2, 3000, 3), b: normal(2, 3000, 3) }, ({ a, b }) => ({
      forwards: t.linearScan(a!, b!, 1),
      backwards: t.linearScan(a!, b!, 1, { reverse: true }),
    }));
    await agrees({ k: integers(-2, 40, 3000), x: normal(3000, 300) }, ({ k, x }) => ({
      y: t.scatterAdd([40, 300], k!, x!, 0),
    }));
  });

  test("more workgroups than one dimension of a grid holds", async () => {
    const count = 256 * 65_535 + 300;
    const y = t.scope(() => t.add(t.fill(gpu, [count], 1), 2));
    const last = new Float32Array(await gpu.read(y.buf, count - 2, 2));
    const middle = new Float32Array(await gpu.read(y.buf, 256 * 40_000, 1));
    y.dispose();
    expect([...last, ...middle]).toEqual([3, 3, 3]);
  });

  test("16-bit and block formats: the CPU backend's values, also through views, gathers and concatenation", async () => {
    const x = normal(40, 64);
    for (const format of ["f16", "bf16"] as const) {
      const run = (a: Tensors): Tensors => {
        const h = t.cast(t.cast(a["x"]!, "float32"), format);
        return {
          cast: h,
          view: t.permute(h, [1, 0]),
          sum: t.add(h, h),
          joined: t.concat([t.slice(h, 1, 0, 3), t.slice(h, 1, 5)], 1),
          rows: t.gather(h, t.tensor(h.backend, Int32Array.of(3, -1, 39)), 0),
          odd: t.slice(t.slice(h, 1, 0, 7), 0, 0, 3),
        };
      };
      await agrees({ x }, run, 1e-30);
    }
    await agrees(
      { x },
      (a) => {
        const h = t.cast(t.cast(a["x"]!, "float32"), "q8_0");
        return { cast: t.cast(h, "float32"), rows: t.gather(h, t.tensor(h.backend, Int32Array.of(3, -1, 39)), 0) };
      },
      1e-3,
    );
    const special = {
      shape: [9],
      data: Float64Array.of(1e-8, 6e-8, -5.97e-8, 6.1e-5, 65519, 65520, 1e30, -0, 2049).map(Math.fround),
    };
    await agrees({ x: special }, (a) => ({ y: t.cast(t.cast(a["x"]!, "float32"), "f16") }), 1e-30);
  });
});
