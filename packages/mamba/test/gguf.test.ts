import { type Backend, isMambaError } from "@mamba-ts/backend";
import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { memoryReader, openSafetensors, safetensorsParts } from "@mamba-ts/checkpoint";
import { ggufParts, openGguf } from "@mamba-ts/checkpoint/gguf";
import { Mamba, type MambaConfig } from "@mamba-ts/mamba";
import { loadMamba, loadMambaFrom, mambaGguf, mambaTensors, toTransformersConfig } from "@mamba-ts/mamba/load";
import { evaluate, memoryTokens } from "@mamba-ts/train";
import { expect, test } from "vitest";
import { perturbed } from "./support.js";

const config: MambaConfig = { dModel: 32, nLayer: 2, vocabSize: 264, dState: 4 };
const ids = [72, 101, 108, 108, 111, 0, 255, 263, 31];

async function together(parts: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const all: Uint8Array[] = [];
  for await (const part of parts) all.push(part);
  return new Uint8Array(Buffer.concat(all));
}

const asGguf = async (model: Mamba, options?: Parameters<typeof mambaGguf>[1]): Promise<Uint8Array> =>
  together(ggufParts(mambaGguf(model, options)));

const open = (file: Uint8Array) => openGguf(memoryReader(file, "model.gguf"));

async function logits(model: Mamba): Promise<Float64Array> {
  using out = model.forward([ids]).logits!;
  return Float64Array.from(await out.data());
}

function distance(a: Float64Array, b: Float64Array): number {
  const norm = (x: ArrayLike<number>): number => Math.hypot(...Array.from(x));
  return norm(a.map((x, i) => x - b[i]!)) / norm(b);
}

test.each<MambaConfig>([
  config,
  { ...config, tieEmbeddings: false },
  { ...config, innerNorm: "plain", innerNormEps: 1e-5 },
  { ...config, dState: 5, dtRank: 3, normEps: 1e-3, dConv: 3 },
])("a model comes back from GGUF as it was: %o", async (given) => {
  using backend = createCpuBackend();
  using model = perturbed(given, backend);
  const { model: loaded, tokenizer } = await loadMamba(await open(await asGguf(model)), { backend });
  expect(tokenizer).toBeUndefined();
  // All but A, which passes through an exponential and back.
  expect(distance(await logits(loaded), await logits(model))).toBeLessThan(1e-6);
  expect(loaded.config).toMatchObject({
    ...model.config,
    normEps: Math.fround(model.config.normEps),
    innerNormEps: expect.any(Number),
    expand: 2,
  });
  loaded.dispose();
});

const tolerance = { bf16: 2e-2, f16: 2e-3, q8_0: 4e-2 };

test.each(["bf16", "f16", "q8_0"] as const)(
  "%s: the same model from GGUF and from safetensors, near the one in float32",
  async (dtype) => {
    using backend = createCpuBackend();
    using model = perturbed(config, backend);
    using fromGguf = (await loadMamba(await open(await asGguf(model, { dtype })), { backend })).model;
    const file = await together(safetensorsParts(mambaTensors(model, { dtype })));
    const source = await openSafetensors(memoryReader(file));
    using fromSafetensors = await loadMambaFrom(toTransformersConfig(config), source, { backend });
    const [a, b, exact] = [await logits(fromGguf), await logits(fromSafetensors), await logits(model)];
    expect(distance(a, b)).toBeLessThan(1e-6);
    expect(distance(a, exact)).toBeGreaterThan(1e-6);
    expect(distance(a, exact)).toBeLessThan(tolerance[dtype]);
  },
);

test("weights in blocks stay in blocks, and are numbers where they are asked for so or the backend has none", async () => {
  using backend = createCpuBackend();
  using model = perturbed(config, backend);
  const file = await asGguf(model, { dtype: "q8_0" });
  const dtypes = async (options: { backend: Backend; dtype?: "float32" }): Promise<Record<string, string>> => {
    using loaded = (await loadMamba(await open(file), options)).model;
    return Object.fromEntries([...loaded.namedParameters()].map(([name, p]) => [name, p.value.dtype]));
  };
  const kept = await dtypes({ backend });
  const inBlocks = Object.keys(kept).filter((name) => kept[name] === "q8_0");
  // dtProj's rows have 2 elements.
  expect(inBlocks.filter((name) => !name.includes("layers.1."))).toEqual([
    "backbone.embeddings.weight",
    ...["in_proj", "x_proj", "out_proj"].map((part) => `backbone.layers.0.mixer.${part}.weight`),
  ]);
  const numbers = Object.fromEntries(Object.keys(kept).map((name) => [name, "float32"]));
  expect(await dtypes({ backend, dtype: "float32" })).toEqual(numbers);
  expect(await dtypes({ backend: { ...backend, dtypes: new Set(["float32", "int32"]) } })).toEqual(numbers);
});

test("a model whose head is in blocks is evaluated to what its decoded weights give", async () => {
  using backend = createCpuBackend();
  using model = perturbed(config, backend);
  const file = await asGguf(model, { dtype: "q8_0" });
  const text = memoryTokens(Array.from({ length: 200 }, (_, i) => (i * i + 3 * i) % 256));
  const loss = async (dtype?: "float32"): Promise<number> => {
    using loaded = (await loadMamba(await open(file), { backend, ...(dtype && { dtype }) })).model;
    return (await evaluate(loaded, text, { chunk: 64 })).loss;
  };
  expect(await loss()).toBeCloseTo(await loss("float32"), 4);
});

test("a tokenizer goes with the model and comes back", async () => {
  using backend = createCpuBackend();
  using model = perturbed({ ...config, vocabSize: 265 }, backend);
  const letters = Object.fromEntries(Array.from({ length: 94 }, (_, i) => [String.fromCharCode(33 + i), i]));
  const tokenizer = {
    json: {
      added_tokens: [{ id: 97, content: "<|end|>", special: true }],
      normalizer: { type: "NFC" },
      pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
      post_processor: null,
      decoder: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
      model: { type: "BPE", vocab: { ...letters, Ġ: 94, Ġt: 95, he: 96 }, merges: ["Ġ t", ["h", "e"]] },
    },
    config: { eos_token: "<|end|>" },
  };
  const { tokenizer: read, model: loaded } = await loadMamba(await open(await asGguf(model, { tokenizer })), {
    backend,
  });
  loaded.dispose();
  const there = Array.from(read!.encode("the theme"));
  expect(there).toEqual([83, 96, 95, 96, 76, 68]);
  expect(read!.decode([...there, 97])).toBe("the theme");
  expect(read!.eosId).toBe(97);
});

test.each<[string, MambaConfig, Parameters<typeof mambaGguf>[1]]>([
  ["layer norms", { ...config, norm: "layer" }, {}],
  ["biases", { ...config, bias: true }, {}],
  ["no bias of the convolution", { ...config, convBias: false }, {}],
  ["norms with weights", { ...config, innerNorm: "weighted" }, {}],
  ["another width", { ...config, dInner: 32 }, {}],
  ["too few tokens for bytes", { ...config, vocabSize: 11 }, {}],
  ["a tokenizer of another kind", config, { tokenizer: { json: { model: { type: "WordPiece" } }, config: {} } }],
])("llama.cpp has it not, and that is said: %s", async (_, given, options) => {
  using backend = createCpuBackend();
  using model = Mamba.create(given, { backend });
  await expect(asGguf(model, options)).rejects.toSatisfy((error) => isMambaError(error));
});

test("an A that is no decay is refused", async () => {
  using backend = createCpuBackend();
  using model = perturbed(config, backend);
  const { metadata, tensors } = mambaGguf(model);
  const broken = tensors.map((t) => (t.name === "blk.1.ssm_a" ? { ...t, bytes: () => new Uint8Array(4 * 64 * 4) } : t));
  const file = await together(ggufParts({ metadata, tensors: broken }));
  await expect(loadMamba(await open(file), { backend })).rejects.toThrow(/model.gguf: blk.*ssm_a holds 0/);
});
