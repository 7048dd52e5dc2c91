/** Training on the default backend is training in float64: losses and gradients, with its kernels and without. */
import { relativeError } from "@mamba-ts/backend-testing";
import { createBackend } from "@mamba-ts/backend-wasm";
import { mul, Rng, scope, sum, type Tensor, tensor, valueAndGrad, watchDispatch } from "@mamba-ts/tensor";
import { expect, it } from "vitest";
import { type S4Config, S4Model } from "../src/index.js";
import { backend as cpu } from "./support.js";

const [batch, length] = [3, 50];
const base: S4Config = {
  dModel: 6,
  nLayer: 2,
  dState: 8,
  dInput: 2,
  prenorm: true,
  head: { kind: "classification", classes: 3 },
};
const variants: readonly [string, S4Config][] = [
  ["S4D", { ...base, init: "lin" }],
  ["S4D, bidirectional, two channels", { ...base, init: "inv", bidirectional: true, channels: 2 }],
  ["S4", { ...base, mode: "dplr", length }],
];

it.each(variants)("%s: loss and gradients", async (_, config) => {
  const x = new Rng(3).normal(batch * length * 2);
  const weights = new Rng(4).normal(batch * 3);
  const train = async (on: Parameters<typeof S4Model.create>[1]["backend"], dtype: "float32" | "float64") => {
    using model = S4Model.create(config, { backend: on, dtype, seed: 2 });
    const names = [...model.namedParameters()].map(([name]) => name);
    const loss = (): { loss: Tensor } => {
      const { output } = model.forward(tensor(on, x, [batch, length, 2], dtype), { train: true });
      return { loss: sum(mul(output, tensor(on, weights, [batch, 3], dtype))) };
    };
    const wrt = model.parameters().map((p) => p.value);
    const { value, gradients } = scope(() => valueAndGrad(loss, wrt));
    const all = [value.loss, ...gradients];
    const read = await Promise.all(all.map(async (t) => Float64Array.from(await t.data())));
    for (const t of all) t.dispose();
    return new Map(read.map((data, i) => [i === 0 ? "loss" : names[i - 1]!, data]));
  };
  const want = await train(cpu, "float64");
  for (const fused of [undefined, {}]) {
    using wasm = await createBackend({ poison: true, ...(fused === undefined ? {} : { fused }) });
    const composed = new Set<string>();
    const got = await watchDispatch(
      ({ op, how }) => how === "composed" && composed.add(op),
      () => train(wasm, "float32"),
    );
    if (fused === undefined) expect([...composed]).toEqual([]);
    for (const [name, data] of want) expect(relativeError(got.get(name)!, data), name).toBeLessThan(3e-4);
    expect(wasm.memory().liveBuffers).toBe(0);
  }
});
