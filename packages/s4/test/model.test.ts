import { isMambaError } from "@mamba-ts/backend";
import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { relativeError } from "@mamba-ts/backend-testing";
import { encodeSafetensors, memoryReader, openSafetensors } from "@mamba-ts/checkpoint";
import {
  linearCrossEntropy,
  mean,
  mul,
  Rng,
  scope,
  slice,
  sub,
  sum,
  type Tensor,
  tensor,
  valueAndGrad,
} from "@mamba-ts/tensor";
import { AdamW, gradientStep } from "@mamba-ts/train";
import { describe, expect, it } from "vitest";
import { isStateParameter, type S4Config, S4Model, S4State } from "../src/index.js";
import { loadS4From, s4Tensors } from "../src/load.js";
import { backend, errorOf, normal } from "./support.js";

const small: S4Config = {
  dModel: 4,
  nLayer: 2,
  dState: 6,
  dInput: 2,
  head: { kind: "regression", outputs: 2 },
  dtMin: 0.02,
  dtMax: 0.3,
};
const variants: readonly [string, Partial<S4Config>][] = [
  ["S4D", { init: "lin" }],
  [
    "S4D, prenorm, batch norm, bilinear, SiLU, no GLU",
    { prenorm: true, norm: "batch", discretization: "bilinear", activation: "silu", finalActivation: "none" },
  ],
  ["S4D, bidirectional, two channels", { init: "inv", bidirectional: true, channels: 2 }],
  ["S4", { mode: "dplr", length: 12 }],
  ["forecast", { init: "lin", head: { kind: "forecast", outputs: 2, horizon: 3 }, norm: "none" }],
];

describe("gradients against central differences, float64", () => {
  const check = async (config: S4Config, options: { deltas?: Tensor; mode?: "recurrence" | "scan" } = {}) => {
    using model = S4Model.create(config, { backend, seed: 2, dtype: "float64" });
    const x = normal([2, 12, 2], 3);
    const loss = () => {
      const { output, state } = model.forward(x, {
        ...options,
        train: true,
        returnState: config.bidirectional !== true,
      });
      const square = mean(mul(output, output));
      return {
        loss:
          state === undefined
            ? square
            : scope(() => state.layers.reduce((s, t) => sub(s, mul(mean(mul(t, t)), -0.1)), square)),
      };
    };
    const named = [...model.namedParameters()].filter(([name]) => !name.includes("running"));
    const { gradients } = scope(() =>
      valueAndGrad(
        loss,
        named.map(([, p]) => p.value),
      ),
    );
    for (const [i, [name, parameter]] of named.entries()) {
      const got = Float64Array.from(await gradients[i]!.data());
      // Along two random directions: all elements one by one would take minutes.
      for (const seed of [1, 2]) {
        const direction = new Rng(seed).normal(parameter.size);
        const start = Float64Array.from(await parameter.value.data());
        const at = async (by: number): Promise<number> => {
          parameter.value = tensor(
            backend,
            start.map((v, k) => v + by * direction[k]!),
            parameter.shape,
            "float64",
          );
          return scope(() => loss().loss).item();
        };
        const h = 1e-4;
        const difference = (8 * ((await at(h)) - (await at(-h))) - ((await at(2 * h)) - (await at(-2 * h)))) / (12 * h);
        await at(0);
        const along = got.reduce((s, v, k) => s + v * direction[k]!, 0);
        expect(Math.abs(along - difference), name).toBeLessThan(1e-7 * (1 + Math.abs(difference)));
      }
    }
  };

  it.each(variants)("%s", (_, extra) => check({ ...small, ...extra }));
  it("S4D, recurrence", () => check({ ...small, init: "lin" }, { mode: "recurrence" }));
  it("S4, recurrence", () => check({ ...small, mode: "dplr", length: 12 }, { mode: "recurrence" }));
  it("S4D, scan with steps of their own", () =>
    check({ ...small, init: "lin" }, { deltas: tensor(backend, new Rng(4).uniform(24), [2, 12], "float64") }));
});

describe.each(variants.filter(([, c]) => c.bidirectional !== true))("%s: streaming", (_, extra) => {
  it("sample by sample, in chunks and from a saved state is the whole", async () => {
    using model = S4Model.create(
      { ...small, ...extra, head: { kind: "autoregressive", outputs: 3 } },
      { backend, dtype: "float64" },
    );
    const x = normal([2, 12, 2], 3);
    const whole = model.forward(x, { returnState: true });
    using steps = model.makeSteps();
    let state: S4State | undefined;
    for (let t = 0; t < 12; t++) {
      const next = model.forward(slice(x, 1, t, t + 1), { state, returnState: true, steps });
      expect(await errorOf(next.output, slice(whole.output, 1, t, t + 1))).toBeLessThan(1e-9);
      state = t === 6 ? await S4State.restore(await next.state!.save(), model) : next.state!.clone();
    }
    for (const [i, t] of state!.layers.entries()) expect(await errorOf(t, whole.state!.layers[i]!)).toBeLessThan(1e-9);
    const rest = model.forward(slice(x, 1, 5), {
      state: model.forward(slice(x, 1, 0, 5), { returnState: true }).state,
    });
    expect(await errorOf(rest.output, slice(whole.output, 1, 5))).toBeLessThan(1e-9);
    const nothing = model.forward(slice(x, 1, 12), { state });
    expect(nothing.output.shape).toEqual([2, 0, 3]);
    expect(await errorOf(nothing.state!.layers[0]!, state!.layers[0]!)).toBe(0);
  });
});

describe("training", () => {
  it.each([
    ["S4D", {}],
    ["S4", { mode: "dplr", length: 24 }],
    ["S4D, batch norm, dropout", { norm: "batch", dropout: 0.1, prenorm: true }],
  ] as const)("%s overfits one batch, its state parameters at a rate of their own", async (_, extra) => {
    using model = S4Model.create(
      { dModel: 16, nLayer: 2, dState: 8, dInput: 1, head: { kind: "classification", classes: 4 }, ...extra },
      { backend },
    );
    const x = normal([8, 24, 1], 1, "float32");
    const targets = tensor(
      backend,
      Int32Array.from({ length: 8 }, (_, i) => i % 4),
    );
    using optimizer = new AdamW(model, {
      weightDecay: 0.01,
      groups: [{ match: isStateParameter, rateScale: 0.1, weightDecay: 0 }],
    });
    const rng = new Rng(3);
    const loss = () => {
      const { hidden } = model.forward(x, { train: true, rng });
      return mean(linearCrossEntropy(mean(hidden, 1), model.decoder.weight.value, targets));
    };
    let last = 0;
    for (let step = 0; step < 90; step++) {
      last = (await gradientStep(optimizer, loss, { learningRate: 0.01 })).loss;
    }
    expect(last).toBeLessThan(0.1);
  });

  it("refuses a loss that is not finite, and leaves the weights alone", async () => {
    using model = S4Model.create(small, { backend });
    using optimizer = new AdamW(model);
    const before = (await model.decoder.weight.value.data()).slice();
    const bad = tensor(backend, new Float32Array(18).fill(Number.NaN), [1, 9, 2]);
    const step = gradientStep(optimizer, () => sum(model.forward(bad).output), { learningRate: 0.1 });
    await expect(step).rejects.toThrow(/training step 1: loss NaN/);
    expect(await model.decoder.weight.value.data()).toEqual(before);
    expect(() => new AdamW(model, { groups: [{ match: () => true, rateScale: -1 }] })).toThrow(/rateScale/);
  });

  it("moves the state parameters by their own rate", async () => {
    using model = S4Model.create(small, { backend });
    using optimizer = new AdamW(model, { weightDecay: 0, groups: [{ match: isStateParameter, rateScale: 0.01 }] });
    const before = await Promise.all(model.parameters().map((p) => p.value.data().then((d) => d.slice())));
    const { gradients } = valueAndGrad(
      () => ({ loss: sum(model.forward(normal([1, 9, 2], 1, "float32")).output) }),
      optimizer.parameters.map((p) => p.value),
    );
    optimizer.update(gradients, 0.1);
    for (const [i, [name, parameter]] of [...model.namedParameters()].entries()) {
      // Adam's first step is the rate itself wherever there is a gradient.
      const moved = Math.max(...(await parameter.value.data()).map((v, k) => Math.abs(v - before[i]![k]!)));
      expect(moved, name).toBeCloseTo(isStateParameter(name) ? 0.001 : 0.1, 3);
    }
  });

  it("batch norm follows the batches, and dropout is for training only", async () => {
    using model = S4Model.create({ ...small, norm: "batch", dropout: 0.5 }, { backend });
    const x = normal([4, 30, 2], 1, "float32");
    const before = (await model.forward(x).output.data()).slice();
    for (let i = 0; i < 100; i++) scope(() => void model.forward(x, { train: true }));
    const [trained, settled] = [model.forward(x, { train: true }), model.forward(x)];
    expect(await errorOf(settled.output, trained.output)).toBeLessThan(0.02);
    expect(relativeError(await settled.output.data(), before)).toBeGreaterThan(0.1);
    const drop = (seed: number) => model.forward(x, { train: true, rng: new Rng(seed) }).output;
    expect(await errorOf(drop(1), drop(1))).toBe(0);
    expect(await errorOf(drop(1), drop(2))).toBeGreaterThan(0.01);
  });
});

describe("checkpoints of state-spaces/s4", () => {
  const config: S4Config = { ...small, init: "lin", norm: "layer" };
  const x = normal([1, 10, 2], 3, "float32");

  it.each([
    ["s4", config],
    ["s4d", config],
    ["s4", { ...config, mode: "dplr", init: "legs", length: 10 }],
    ["s4d", { ...config, init: "legs" }],
  ] as const)("dialect %s: a written model is read back as it was", async (dialect, c) => {
    using model = S4Model.create(c as S4Config, { backend, seed: 5 });
    const bytes = await encodeSafetensors(s4Tensors(model, dialect));
    const source = await openSafetensors(memoryReader(bytes, "model.safetensors"));
    using back = await loadS4From(c as S4Config, source, { backend });
    expect(await errorOf(back.forward(x).output, model.forward(x).output)).toBeLessThan(2e-6);
    expect(back.s4Layers[0]!.layer.kernel.kernelLength).toBe(dialect === "s4" && c !== config ? 10 : 0);
    const has = (name: string) => source.names.includes(name);
    if (dialect === "s4d") {
      expect(source.info("s4_layers.0.kernel.C").shape).toEqual([4, 3, 2]);
      expect(source.info("s4_layers.1.output_linear.0.weight").shape).toEqual([8, 4, 1]);
      expect(source.info("s4_layers.0.kernel.log_dt").shape).toEqual([4]);
      expect(has("s4_layers.0.D") && has("s4_layers.0.kernel.log_A_real") && !has("s4_layers.0.kernel.B")).toBe(true);
    } else expect(has("s4_layers.0.layer.kernel.inv_dt") && has("s4_layers.0.layer.D")).toBe(true);
  });

  it("the signs of the dialects are opposite: the minimal file's A_imag is +pi n, ours in memory -(-pi n)", async () => {
    using model = S4Model.create(config, { backend });
    const read = async (dialect: "s4" | "s4d", name: string) => {
      const source = await openSafetensors(memoryReader(await encodeSafetensors(s4Tensors(model, dialect)), "m"));
      return new Float32Array((await source.bytes(name)).slice().buffer);
    };
    const [full, minimal] = [
      await read("s4", "s4_layers.0.layer.kernel.A_imag"),
      await read("s4d", "s4_layers.0.kernel.A_imag"),
    ];
    expect([...minimal]).toEqual([...full].map((v) => -v));
    expect(Math.abs(full[1]!)).toBeCloseTo(Math.PI, 5);
  });

  it("reads a minimal S4D file as that file means it", async () => {
    // K[l] = 2 Re sum_n C (exp(dt A) - 1) / A exp(dt A l), A = -exp(log_A_real) + i A_imag, computed here by itself.
    const values = { C: [0.3, -0.7, 1.1, 0.4], log_dt: [-1.5], log_A_real: [-0.6, 0.2], A_imag: [1.3, 4] };
    const f32 = (name: string, v: number[], shape: number[]) => ({
      name,
      dtype: "F32" as const,
      shape,
      bytes: () => new Uint8Array(Float32Array.from(v).buffer),
    });
    const file = [
      f32("s4_layers.0.kernel.C", values.C, [1, 2, 2]),
      f32("s4_layers.0.kernel.log_dt", values.log_dt, [1]),
      f32("s4_layers.0.kernel.log_A_real", values.log_A_real, [1, 2]),
      f32("s4_layers.0.kernel.A_imag", values.A_imag, [1, 2]),
      f32("s4_layers.0.D", [0.5], [1]),
      f32("s4_layers.0.output_linear.0.weight", [1, 2], [2, 1, 1]),
      f32("s4_layers.0.output_linear.0.bias", [0, 0], [2]),
      f32("encoder.weight", [1], [1, 1]),
      f32("encoder.bias", [0], [1]),
      f32("decoder.weight", [1], [1, 1]),
      f32("decoder.bias", [0], [1]),
    ];
    const c: S4Config = {
      dModel: 1,
      nLayer: 1,
      dState: 4,
      dInput: 1,
      norm: "none",
      head: { kind: "autoregressive", outputs: 1 },
    };
    const open = async (tensors: typeof file) =>
      openSafetensors(memoryReader(await encodeSafetensors(tensors), "m.safetensors"));
    using model = await loadS4From(c, await open(file), { backend });
    const kernel = await scope(() => model.s4Layers[0]!.layer.kernel.kernel(5)).data();
    const dt = Math.exp(-1.5);
    for (let l = 0; l < 5; l++) {
      let want = 0;
      for (let n = 0; n < 2; n++) {
        const [ar, ai] = [-Math.exp(values.log_A_real[n]!), values.A_imag[n]!];
        const [er, ei] = [Math.exp(dt * ar) * Math.cos(dt * ai) - 1, Math.exp(dt * ar) * Math.sin(dt * ai)];
        const [qr, qi] = [(er * ar + ei * ai) / (ar * ar + ai * ai), (ei * ar - er * ai) / (ar * ar + ai * ai)];
        const [cr, ci] = [
          values.C[2 * n]! * qr - values.C[2 * n + 1]! * qi,
          values.C[2 * n]! * qi + values.C[2 * n + 1]! * qr,
        ];
        want += 2 * Math.exp(dt * ar * l) * (cr * Math.cos(dt * ai * l) - ci * Math.sin(dt * ai * l));
      }
      expect(kernel[l]).toBeCloseTo(want, 5);
    }
    const failing = async (tensors: typeof file) => {
      const error = await loadS4From(c, await open(tensors), { backend }).catch((e: unknown) => e);
      return isMambaError(error, "checkpoint") ? error.message : String(error);
    };
    expect(await failing(file.slice(1))).toContain("s4_layers.0.kernel.C is missing");
    expect(await failing([...file, f32("more", [1], [1])])).toContain("more belongs to nothing");
    expect(
      await failing([f32("encoder.weight", [1, 2], [1, 2]), ...file.filter((t) => t.name !== "encoder.weight")]),
    ).toContain("encoder.weight is [1, 2]");
  });
});

describe("what is refused", () => {
  it.each([
    [{ ...small, dState: 5 }, /dState is 5, not even/],
    [{ ...small, nSsm: 3 }, /nSsm is 3/],
    [{ ...small, mode: "dplr", discretization: "zoh" }, /discretization/],
    [{ ...small, vocabSize: 3 }, /either dInput/],
    [{ ...small, bidirectional: true, head: { kind: "autoregressive", outputs: 1 } }, /future/],
    [{ ...small, dropout: 1 }, /dropout/],
    [{ ...small, dtMin: 0 }, /dtMin/],
    [{ ...small, colour: 1 }, /colour is not known/],
  ] as const)("config %#", (config, message) => {
    expect(() => new S4Model(config as unknown as S4Config)).toThrow(message);
  });

  it("inputs, states and steps that do not fit", () => {
    using model = S4Model.create(small, { backend });
    const x = normal([2, 5, 2], 1, "float32");
    expect(() => model.forward(normal([2, 5, 3], 1, "float32"))).toThrow(/\[2, 5, 3\], not \[batch, length, 2\]/);
    expect(() => model.forward(tensor(backend, new Int32Array(20), [2, 5, 2]))).toThrow(/tokens|values/);
    expect(() => model.forward(x, { state: new S4State([]) })).toThrow(/0 layers/);
    expect(() => model.forward(x, { deltas: normal([2, 4], 1, "float32") })).toThrow(/deltas are \[2, 4\]/);
    expect(() => model.forward(x, { deltas: normal([2, 5], 1, "float32"), mode: "convolution" })).toThrow(/scan/);
    expect(() => model.forward(slice(x, 1, 5))).toThrow(/length 0/);
    expect(model.forward(slice(x, 1, 0, 1)).output.shape).toEqual([2, 2]);
    using s4 = S4Model.create({ ...small, mode: "dplr" }, { backend });
    expect(() => s4.forward(x, { mode: "scan" })).toThrow(/diagonal system/);
  });

  it("NaN spreads over its own sequence and nothing else", async () => {
    using model = S4Model.create(small, { backend });
    const values = new Rng(1).normal(20);
    values[3] = Number.NaN;
    const y = await model.forward(tensor(backend, values, [2, 5, 2], "float32")).output.data();
    expect([...y].map(Number.isNaN)).toEqual([true, true, false, false]);
  });
});

it.each(variants)("%s: leaves no buffer behind", async (_, extra) => {
  const own = createCpuBackend();
  {
    using model = S4Model.create({ ...small, ...extra }, { backend: own });
    scope(() => {
      const x = tensor(own, new Rng(1).normal(48), [2, 12, 2], "float32");
      const wrt = model.parameters().map((p) => p.value);
      valueAndGrad(() => ({ loss: sum(model.forward(x, { train: true, rng: new Rng(2) }).output) }), wrt);
      if (model.config.bidirectional) return;
      using steps = model.makeSteps();
      const { state } = model.forward(x, { returnState: true });
      model.forward(slice(x, 1, 0, 1), { state, steps });
    });
    await encodeSafetensors(s4Tensors(model));
  }
  expect(own.memory().liveBuffers).toBe(0);
});

it("reads tokens", () => {
  const { dInput: _, ...rest } = small;
  using model = S4Model.create({ ...rest, vocabSize: 7 }, { backend });
  expect(model.forward(tensor(backend, Int32Array.of(1, 2, 6), [1, 3])).output.shape).toEqual([1, 2]);
});
