import { isMambaError } from "@mamba-ts/backend";
import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { memoryReader } from "@mamba-ts/checkpoint";
import { ggufParts, openGguf } from "@mamba-ts/checkpoint/gguf";
import { Jamba, type JambaConfig } from "@mamba-ts/jamba";
import { jambaGguf, loadJamba } from "@mamba-ts/jamba/load";
import { expect, test } from "vitest";

const config: JambaConfig = {
  ...{ dModel: 32, nLayer: 4, vocabSize: 260, dFeedForward: 64, nHeads: 4, nKvHeads: 2, dState: 4, maxLength: 64 },
  ...{ attnLayerPeriod: 4, attnLayerOffset: 2, expertLayerPeriod: 2, expertLayerOffset: 1, nExperts: 3, topK: 2 },
};

async function encode(model: Jamba, options?: Parameters<typeof jambaGguf>[1]): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const part of ggufParts(jambaGguf(model, options))) parts.push(part);
  return new Uint8Array(Buffer.concat(parts));
}

const open = (file: Uint8Array) => openGguf(memoryReader(file, "model.gguf"));

async function logits(model: Jamba): Promise<Float64Array> {
  using out = model.forward([[72, 101, 108, 108, 111, 0, 255]]).logits!;
  return Float64Array.from(await out.data());
}

test.each<[string, Partial<JambaConfig>]>([
  ["with experts and attention", {}],
  ["tied, without experts", { tieEmbeddings: true, nExperts: 1, topK: 1 }],
  ["one layer with experts", { expertLayerPeriod: 4, expertLayerOffset: 3 }],
  ["attention where no period puts it", { layerTypes: ["attention", "mamba", "mamba", "attention"] }],
])("a model comes back from GGUF as it was: %s", async (_, change) => {
  using backend = createCpuBackend();
  using model = Jamba.create({ ...config, ...change }, { backend, seed: 5 });
  const { model: loaded } = await loadJamba(await open(await encode(model)), { backend });
  const [a, b] = [await logits(loaded), await logits(model)];
  const norm = Math.hypot(...b);
  expect(Math.hypot(...a.map((x, i) => x - b[i]!)) / norm).toBeLessThan(1e-6);
  expect([loaded.config.layerTypes, loaded.config.expertLayers]).toEqual([
    model.config.layerTypes,
    model.config.expertLayers,
  ]);
  loaded.dispose();
});

test("in q8_0 routers and experts stay numbers, matrices are in blocks", async () => {
  using backend = createCpuBackend();
  using model = Jamba.create(config, { backend, seed: 5 });
  using loaded = (await loadJamba(await open(await encode(model, { dtype: "q8_0" })), { backend })).model;
  const dtypes = new Map([...loaded.namedParameters()].map(([name, p]) => [name, p.value.dtype]));
  expect(dtypes.get("model.layers.1.feed_forward.router.weight")).toBe("float32");
  expect(dtypes.get("model.layers.1.feed_forward.experts.up_proj")).toBe("float32");
  expect(dtypes.get("model.layers.0.feed_forward.up_proj.weight")).toBe("q8_0");
  expect(dtypes.get("model.layers.2.self_attn.q_proj.weight")).toBe("q8_0");
  const [a, b] = [await logits(loaded), await logits(model)];
  expect(Math.hypot(...a.map((x, i) => x - b[i]!)) / Math.hypot(...b)).toBeLessThan(3e-2);
});

test("what llama.cpp's Jamba has not is refused, and so are keys that say nothing", async () => {
  using backend = createCpuBackend();
  for (const change of [{ bias: true }, { convBias: false }, { innerNorms: false }, { expand: 1 }]) {
    using model = Jamba.create({ ...config, ...change }, { backend });
    expect(() => jambaGguf(model)).toThrow(expect.toSatisfy((error: unknown) => isMambaError(error, "config")));
  }
  using model = Jamba.create(config, { backend });
  const { config: metadata, ...rest } = await open(await encode(model));
  for (const key of ["jamba.block_count", "jamba.attention.head_count_kv", "jamba.ssm.state_size"]) {
    const { [key]: _, ...others } = metadata as Record<string, unknown>;
    await expect(loadJamba({ ...rest, config: others }, { backend })).rejects.toThrow(key);
  }
});
