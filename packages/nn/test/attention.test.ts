import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { relativeError } from "@mamba-ts/backend-testing";
import { Attention, type KvCache } from "@mamba-ts/nn";
import { fromHost, keep, mul, Rng, scope, slice, sum, type Tensor, valueAndGrad } from "@mamba-ts/tensor";
import { afterEach, describe, expect, test } from "vitest";
import { expectGradients, project, randomTensor } from "./support.js";

describe.each([
  ["fused", undefined],
  ["composed", {}],
] as const)("attention, %s", (_, fused) => {
  const backend = createCpuBackend({ poison: true, ...(fused === undefined ? {} : { fused }) });
  afterEach(() => expect(backend.memory().liveBuffers).toBe(0));
  const [batch, length, dModel, heads, kvHeads, headDim] = [2, 7, 10, 6, 2, 3];
  const make = () => new Attention({ dModel, heads, kvHeads, headDim }).initialise(backend, new Rng(1), "float64");

  /** In plain loops: ids [batch][length] as segments. */
  async function oracle(layer: Attention, h: ArrayLike<number>, ids?: readonly (readonly number[])[]) {
    const weights = await Promise.all(
      [layer.qProj, layer.kProj, layer.vProj, layer.oProj].map((l) => l.weight.value.data()),
    );
    const [q, k, v] = weights.slice(0, 3).map((w) => project(h, w, dModel)) as [
      Float64Array,
      Float64Array,
      Float64Array,
    ];
    const out = new Float64Array(batch * length * heads * headDim);
    for (let b = 0; b < batch; b++)
      for (let i = 0; i < length; i++)
        for (let a = 0; a < heads; a++) {
          const g = Math.floor(a / (heads / kvHeads));
          const scores: [number, number][] = [];
          for (let j = 0; j <= i; j++) {
            if (ids !== undefined && (ids[b]![i]! < 0 || ids[b]![i] !== ids[b]![j])) continue;
            let s = 0;
            for (let d = 0; d < headDim; d++)
              s +=
                q[((b * length + i) * heads + a) * headDim + d]! * k[((b * length + j) * kvHeads + g) * headDim + d]!;
            scores.push([j, Math.exp(s / Math.sqrt(headDim))]);
          }
          const total = scores.reduce((t, [, w]) => t + w, 0);
          for (const [j, w] of scores)
            for (let d = 0; d < headDim; d++)
              out[((b * length + i) * heads + a) * headDim + d]! +=
                (w / total) * v[((b * length + j) * kvHeads + g) * headDim + d]!;
        }
    return project(out, weights[3]!, heads * headDim);
  }

  test("is causal grouped-query attention", async () => {
    const [layer, h] = [make(), randomTensor(backend, 2, [batch, length, dModel])];
    const out = scope(() => layer.forward(h).out);
    expect(relativeError(await out.data(), await oracle(layer, await h.data()))).toBeLessThan(1e-12);
    for (const t of [out, h]) t.dispose();
    layer.dispose();
  });

  test("only equal ids see each other; padding gives nothing", async () => {
    const [layer, h] = [make(), randomTensor(backend, 3, [batch, length, dModel])];
    const ids = [
      [-1, 0, 0, 0, 1, 1, 1],
      [0, 0, -1, 0, 0, 2, -1],
    ];
    const segments = fromHost(backend, Int32Array.from(ids.flat()), [batch, length], "int32");
    const out = scope(() => layer.forward(h, { segments: { query: segments, key: segments } }).out);
    expect(relativeError(await out.data(), await oracle(layer, await h.data(), ids))).toBeLessThan(1e-12);
    for (const t of [out, h, segments]) t.dispose();
    layer.dispose();
  });

  test.each([
    [[7], false],
    [[1, 1, 1, 1, 1, 1, 1], false],
    [[3, 4], false],
    [[1, 1, 1, 1, 1, 1, 1], true],
    [[2, 5], true],
    [[0, 7], true],
  ])("chunks %j with a cache (in place: %s) = whole", async (sizes, inPlace) => {
    const [layer, h] = [make(), randomTensor(backend, 4, [batch, length, dModel])];
    let cache: KvCache | undefined = inPlace ? layer.createCache(backend, batch, 2, "float64") : undefined;
    const got: Float64Array[] = [];
    let at = 0;
    for (const n of sizes) {
      const before: KvCache | undefined = cache;
      const step = scope(() => layer.forward(slice(h, 1, at, at + n), { cache: before, inPlace }));
      at += n;
      cache = { ...step.cache, k: keep(step.cache.k), v: keep(step.cache.v) };
      expect(cache.length).toBe(at);
      for (const t of before === undefined ? [] : [before.k, before.v]) if (t !== cache.k && t !== cache.v) t.dispose();
      got.push(Float64Array.from(await step.out.data()));
      step.out.dispose();
    }
    const want = await oracle(layer, await h.data());
    // Chunk by chunk of both rows; the oracle is row by row.
    let [from, error] = [0, 0];
    for (const [i, n] of sizes.entries()) {
      for (let b = 0; b < batch; b++) {
        const expected = want.slice((b * length + from) * dModel, (b * length + from + n) * dModel);
        error = Math.max(error, relativeError(got[i]!.slice(b * n * dModel, (b + 1) * n * dModel), expected));
      }
      from += n;
    }
    expect(error).toBeLessThan(1e-12);
    for (const t of [h, cache!.k, cache!.v]) t.dispose();
    layer.dispose();
  });

  test("gradients, through the cache too", async () => {
    const layer = make();
    const [h, past] = [randomTensor(backend, 5, [batch, 3, dModel]), randomTensor(backend, 6, [batch, 4, dModel])];
    const weight = randomTensor(backend, 7, [batch, 3, dModel]);
    const named: [string, Tensor][] = [
      ...[...layer.namedParameters()].map(([n, p]): [string, Tensor] => [n, p.value]),
      ["h", h],
      ["past", past],
    ];
    const run = () => {
      const { cache } = layer.forward(past);
      return { loss: sum(mul(layer.forward(h, { cache }).out, weight)) };
    };
    const { value, gradients } = valueAndGrad(
      run,
      named.map(([, t]) => t),
    );
    await expectGradients(named, gradients, async () => {
      const { loss } = scope(run);
      const x = await loss.item();
      loss.dispose();
      return x;
    });
    for (const t of [value.loss, h, past, weight, ...gradients]) t.dispose();
    layer.dispose();
  });
});

test("sizes that do not divide and caches of another batch are refused", () => {
  expect(() => new Attention({ dModel: 8, heads: 3 })).toThrow(expect.objectContaining({ code: "config" }));
  expect(() => new Attention({ dModel: 8, heads: 4, kvHeads: 3 })).toThrow(expect.objectContaining({ code: "config" }));
  const backend = createCpuBackend();
  const layer = new Attention({ dModel: 4, heads: 2 }).initialise(backend, new Rng(1));
  const cache = layer.createCache(backend, 3, 2, "float32");
  const h = fromHost(backend, new Float32Array(8), [2, 1, 4], "float32");
  expect(() => scope(() => layer.forward(h, { cache }))).toThrow(expect.objectContaining({ code: "shape" }));
});
