import type { Backend } from "@mamba-ts/backend";
import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { relativeError } from "@mamba-ts/backend-testing";
import { add, flip, fromHost, mul, Rng, randomNormal, scope, sum, type Tensor, valueAndGrad } from "@mamba-ts/tensor";
import { AdamW } from "@mamba-ts/train";
import {
  bicubicMatrix,
  classificationLoss,
  interpolatePositions,
  resolveVisionMambaConfig,
  VisionMamba,
  type VisionMambaConfig,
  VisionMixer,
  visionMambaSizes,
} from "@mamba-ts/vision-mamba";
import { parseVimConfig, toVimConfig } from "@mamba-ts/vision-mamba/load";
import { describe, expect, test } from "vitest";

const small: VisionMambaConfig = {
  imageSize: 8,
  patchSize: 4,
  dModel: 8,
  nLayer: 2,
  dState: 3,
  nClasses: 5,
  channels: 2,
};

function perturb<M extends VisionMamba | VisionMixer>(model: M, backend: Backend, seed: number): M {
  const rng = new Rng(seed);
  const centre = (name: string): number =>
    /dt_proj(_b)?\.bias/.test(name) ? -1 : /norm.*weight$|A.*_log$|\.D|^D/.test(name) ? 0.5 : 0;
  for (const [name, p] of model.namedParameters())
    p.value = fromHost(
      backend,
      rng.normal(p.size).map((z) => centre(name) + 0.4 * z),
      p.shape,
      "float64",
    );
  return model;
}

describe.each(["v1", "v2"] as const)("bimamba %s", (bimamba) => {
  test("directions exchanged on a flipped sequence = flipped output", async () => {
    const backend = createCpuBackend({ poison: true });
    const config = resolveVisionMambaConfig({ ...small, bimamba });
    const [mixer, swapped] = [new VisionMixer(config), new VisionMixer(config)];
    perturb(mixer, backend, 1);
    const values = new Map(mixer.namedParameters());
    const other = (name: string): string => {
      if (name === "A_log") return "A_b_log";
      if (name === "A_b_log") return "A_log";
      if (bimamba === "v1" || /^(in|out)_proj/.test(name)) return name;
      const [head, ...rest] = name.split(".") as [string, ...string[]];
      return [head.endsWith("_b") ? head.slice(0, -2) : `${head}_b`, ...rest].join(".");
    };
    for (const [name, p] of swapped.namedParameters())
      p.value = fromHost(backend, await values.get(other(name))!.value.data(), p.shape, "float64");
    const h = randomNormal(backend, [2, 7, 8], new Rng(2), { dtype: "float64" });
    // v1's convolution is shared and causal, so only v2 is symmetric; v1 is where the convolution is the identity.
    if (bimamba === "v1")
      for (const m of [mixer, swapped])
        m.ssm.conv1d.weight.value = fromHost(
          backend,
          Array.from({ length: 64 }, (_, i) => (i % 4 === 3 ? 1 : 0)),
          [16, 1, 4],
          "float64",
        );
    const { a, b } = scope(() => ({ a: mixer.forward(h), b: flip(swapped.forward(flip(h, 1)), 1) }));
    expect(relativeError(await b.data(), await a.data())).toBeLessThan(1e-12);
    const same = scope(() => flip(mixer.forward(flip(h, 1)), 1));
    expect(relativeError(await same.data(), await a.data())).toBeGreaterThan(1e-3);
  });
});

test.each<[string, VisionMambaConfig]>([
  ["a class token in the middle", {}],
  ["at the head", { classToken: "head" }],
  ["at both ends", { classToken: "ends" }],
  ["none, mean", { classToken: "none" }],
  ["none, last", { classToken: "none", pool: "last" }],
  ["none, max", { classToken: "none", pool: "max" }],
  ["overlapping patches, no positions, v1, layer norm", { stride: 2, positions: false, bimamba: "v1", norm: "layer" }],
  ["one direction, no head", { bimamba: "none", nClasses: 0, imageSize: [8, 12] }],
])("%s: gradients in float64, pixels' too", async (_, extra) => {
  const backend = createCpuBackend({ poison: true });
  const model = perturb(new VisionMamba({ ...small, ...extra }), backend, 3);
  const [height, width] = model.config.imageSize;
  const pixels = randomNormal(backend, [2, 2, height, width], new Rng(4), { dtype: "float64" });
  const named: [string, Tensor][] = [
    ["pixels", pixels],
    ...[...model.namedParameters()].map(([n, p]): [string, Tensor] => [n, p.value]),
  ];
  const rng = new Rng(5);
  const run = () => {
    const { logits } = model.forward(pixels);
    const { tokens, map } = model.forwardFeatures(pixels);
    return { loss: add(sum(mul(logits, logits)), add(sum(mul(tokens, 0.1)), sum(mul(map, map)))) };
  };
  const { value, gradients } = valueAndGrad(
    run,
    named.map(([, t]) => t),
  );
  const evaluate = async () => {
    const { loss } = scope(run);
    const x = await loss.item();
    loss.dispose();
    return x;
  };
  for (const [i, [name, t]] of named.entries()) {
    const here = Float64Array.from(await t.data());
    const direction = rng.normal(t.size);
    const step = 1e-3 / Math.hypot(...direction);
    const at = async (h: number) => {
      backend.write(
        t.buf,
        here.map((x, j) => x + h * step * direction[j]!),
      );
      return evaluate();
    };
    const want = (8 * ((await at(1)) - (await at(-1))) - ((await at(2)) - (await at(-2)))) / (12 * step);
    backend.write(t.buf, here);
    const g = await gradients[i]!.data();
    const got = direction.reduce((s, d, j) => s + d * g[j]!, 0);
    const error = Math.abs(got - want) / Math.max(1e-3, Math.abs(want));
    expect([name, error < 1e-6 ? "agrees" : error]).toEqual([name, "agrees"]);
  }
  for (const t of [value.loss, pixels, ...gradients]) t.dispose();
  model.dispose();
  expect(backend.memory().liveBuffers).toBe(0);
});

test("patches are a convolution", async () => {
  const backend = createCpuBackend();
  const model = perturb(new VisionMamba({ ...small, stride: 2, imageSize: [8, 10] }), backend, 6);
  const pixels = randomNormal(backend, [1, 2, 8, 10], new Rng(7), { dtype: "float64" });
  const [x, w, b] = await Promise.all(
    [pixels, model.patchEmbed.proj.weight.value, model.patchEmbed.proj.bias.value].map((t) => t.data()),
  );
  const want: number[] = [];
  for (let row = 0; row + 4 <= 8; row += 2)
    for (let column = 0; column + 4 <= 10; column += 2)
      for (let d = 0; d < 8; d++) {
        let s = b![d]!;
        for (let c = 0; c < 2; c++)
          for (let i = 0; i < 4; i++)
            for (let j = 0; j < 4; j++)
              s += w![((d * 2 + c) * 4 + i) * 4 + j]! * x![(c * 8 + row + i) * 10 + column + j]!;
        want.push(s);
      }
  expect(relativeError(await scope(() => model.patchEmbed.forward(pixels)).data(), want)).toBeLessThan(1e-12);
});

describe("positions", () => {
  test("bicubic weights add up to 1, the same size changes nothing, a ramp stays one inside", () => {
    for (const [from, to] of [
      [3, 7],
      [14, 27],
      [5, 2],
    ] as const) {
      const m = bicubicMatrix(from, to);
      for (let i = 0; i < to; i++)
        expect(m.slice(i * from, (i + 1) * from).reduce((a, b) => a + b, 0)).toBeCloseTo(1, 12);
    }
    expect(Array.from(bicubicMatrix(4, 4))).toEqual([1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]);
    const m = bicubicMatrix(8, 16);
    const ramp = Array.from({ length: 16 }, (_, i) => m.slice(i * 8, i * 8 + 8).reduce((s, w, j) => s + w * j, 0));
    for (let i = 4; i < 12; i++) expect(Math.abs(ramp[i]! - (i / 2 - 0.25))).toBeLessThan(0.06);
  });

  test.each(["middle", "head", "ends", "none"] as const)("a class token (%s) is no patch", async (classToken) => {
    const backend = createCpuBackend();
    const [from, to] = [
      resolveVisionMambaConfig({ ...small, imageSize: 12, classToken }),
      resolveVisionMambaConfig({ ...small, imageSize: 24, classToken }),
    ];
    const tokens = 9 + from.classPositions.length;
    const isClass = (config: typeof from, t: number) => config.classPositions.includes(t);
    // Patches are 1, class tokens 1000: nothing of them may leak.
    const learnt = fromHost(
      backend,
      Array.from({ length: tokens }, (_, t) => (isClass(from, t) ? 1000 : 1)),
      [1, tokens, 1],
      "float64",
    );
    const out = interpolatePositions(learnt, from, to);
    const got = Array.from(await out.data());
    expect(got).toHaveLength(36 + to.classPositions.length);
    for (const [t, v] of got.entries()) expect(v).toBeCloseTo(isClass(to, t) ? 1000 : 1, 9);
  });
});

test("drop path leaves out whole samples, keeps the mean, and only in training", async () => {
  const backend = createCpuBackend();
  const model = perturb(new VisionMamba({ ...small, dropPath: 0.6 }), backend, 8);
  const image = randomNormal(backend, [1, 2, 8, 8], new Rng(9), { dtype: "float64" });
  const data = Array.from(await image.data());
  const pixels = fromHost(backend, Array.from({ length: 64 }, () => data).flat(), [64, 2, 8, 8], "float64");
  expect(() => model.forward(pixels, { train: true })).toThrow(expect.objectContaining({ code: "invalid-argument" }));
  const rows = async (t: Tensor) => {
    const all = Array.from(await t.data(), (v) => v.toFixed(9));
    return new Set(Array.from({ length: 64 }, (_, b) => all.slice(b * 5, b * 5 + 5).join()));
  };
  expect((await rows(model.forward(pixels).logits)).size).toBe(1);
  // The first layer is always kept, the second is there or not.
  expect((await rows(model.forward(pixels, { train: true, rng: new Rng(1) }).logits)).size).toBe(2);
});

test("one batch is learnt by heart", async () => {
  const backend = createCpuBackend();
  const model = VisionMamba.create({ ...small, dModel: 16 }, { backend, seed: 1 });
  const pixels = randomNormal(backend, [6, 2, 8, 8], new Rng(1));
  const labels = fromHost(backend, Int32Array.of(0, 1, 2, 3, 4, 0), [6], "int32");
  const optimizer = new AdamW(model, { weightDecay: 0 });
  let last = Number.NaN;
  for (let i = 0; i < 60; i++) {
    const { value, gradients } = valueAndGrad(
      () => ({ loss: classificationLoss(model.forward(pixels).logits, labels) }),
      optimizer.parameters.map((p) => p.value),
    );
    optimizer.update(gradients, 1e-2);
    last = await value.loss.item();
    for (const t of [value.loss, ...gradients]) t.dispose();
  }
  expect(last).toBeLessThan(0.02);
});

test.each([
  ["tiny", 7_148_008],
  ["small", 25_796_584],
  ["base", 97_598_440],
] as const)("parameters of %s", (size, parameters) => {
  expect(new VisionMamba(visionMambaSizes[size]).parameterCount).toBe(parameters);
});

test("the repository's arguments, there and back", () => {
  for (const extra of [
    {},
    { classToken: "ends" as const },
    { classToken: "none" as const, pool: "max" as const },
    { bimamba: "v1" as const, stride: 2, imageSize: [8, 12] as const },
  ]) {
    const config = resolveVisionMambaConfig({ ...small, ...extra });
    expect(resolveVisionMambaConfig(parseVimConfig(toVimConfig(config)))).toEqual(config);
  }
  expect(() => parseVimConfig({ if_rope: true })).toThrow(expect.objectContaining({ code: "config" }));
  expect(() => parseVimConfig({ img_size: "224" })).toThrow(expect.objectContaining({ code: "config" }));
});

test.each<[string, VisionMambaConfig]>([
  ["patch", { imageSize: 3 }],
  ["stride", { stride: 0 }],
  ["dropPath", { dropPath: 1 }],
  ["pool", { pool: "min" as never }],
  ["depth", { depth: 3 } as never],
])("a wrong %s is refused", (name, wrong) => {
  expect(() => new VisionMamba({ ...small, ...wrong })).toThrow(
    expect.objectContaining({ code: "config", message: expect.stringContaining(name) }),
  );
});
