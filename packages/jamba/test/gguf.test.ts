import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { memoryReader, type TensorToWrite } from "@mamba-ts/checkpoint";
import { type GgufToWrite, ggufParts, openGguf } from "@mamba-ts/checkpoint/gguf";
import { Jamba, type JambaConfig } from "@mamba-ts/jamba";
import { jambaConfigText, jambaGguf, loadJamba } from "@mamba-ts/jamba/load";
import { afterAll, expect, test } from "vitest";
import { perturbed, relativeError, see, small } from "./support.js";

const backend = createCpuBackend({ poison: true });
afterAll(() => expect(backend.memory().liveBuffers).toBe(0));
const rows = [[72, 101, 108, 108, 111, 0, 255]];
const config: JambaConfig = { ...small, vocabSize: 264 };

async function open(file: GgufToWrite) {
  const all: Uint8Array[] = [];
  for await (const part of ggufParts(file)) all.push(part);
  return openGguf(memoryReader(new Uint8Array(Buffer.concat(all)), "model.gguf"));
}

/** The names and shapes of llama.cpp's converter, for a Mamba layer with a dense part and an attention layer with experts. */
test("names and shapes are llama.cpp's", () => {
  const model = perturbed({ ...config, nLayer: 2 }, backend);
  const shapes = Object.fromEntries(jambaGguf(model).tensors.map((t) => [t.name, [...t.shape]]));
  expect(shapes).toEqual({
    "token_embd.weight": [264, 8],
    "blk.0.attn_norm.weight": [8],
    "blk.0.ssm_in.weight": [32, 8],
    "blk.0.ssm_conv1d.weight": [16, 4],
    "blk.0.ssm_conv1d.bias": [16],
    "blk.0.ssm_x.weight": [7, 16],
    "blk.0.ssm_dt.weight": [16, 1],
    "blk.0.ssm_dt.bias": [16],
    "blk.0.ssm_dt_norm.weight": [1],
    "blk.0.ssm_b_norm.weight": [3],
    "blk.0.ssm_c_norm.weight": [3],
    "blk.0.ssm_a": [16, 3],
    "blk.0.ssm_d": [16],
    "blk.0.ssm_out.weight": [8, 16],
    "blk.0.ffn_norm.weight": [8],
    "blk.0.ffn_gate.weight": [6, 8],
    "blk.0.ffn_up.weight": [6, 8],
    "blk.0.ffn_down.weight": [8, 6],
    "blk.1.attn_norm.weight": [8],
    "blk.1.attn_q.weight": [8, 8],
    "blk.1.attn_k.weight": [4, 8],
    "blk.1.attn_v.weight": [4, 8],
    "blk.1.attn_output.weight": [8, 8],
    "blk.1.ffn_norm.weight": [8],
    "blk.1.ffn_gate_inp.weight": [3, 8],
    "blk.1.ffn_gate_exps.weight": [3, 6, 8],
    "blk.1.ffn_up_exps.weight": [3, 6, 8],
    "blk.1.ffn_down_exps.weight": [3, 8, 6],
    "output_norm.weight": [8],
    "output.weight": [264, 8],
  });
  model.dispose();
});

test.each<[string, Partial<JambaConfig>]>([
  ["experts in every second layer", {}],
  ["no experts", { nExperts: 1, topK: 1 }],
  ["experts everywhere, a tied head", { expertLayerPeriod: 1, expertLayerOffset: 0, tieEmbeddings: true }],
  ["one attention layer, one layer with experts", { attnLayerPeriod: 4, expertLayerPeriod: 4, expertLayerOffset: 3 }],
  ["no attention", { layerTypes: ["mamba", "mamba", "mamba", "mamba"] }],
  ["attention in no rhythm", { layerTypes: ["mamba", "attention", "attention", "mamba"] }],
])("a model comes back as it was: %s", async (_, extra) => {
  const model = perturbed({ ...config, ...extra }, backend);
  const { model: loaded } = await loadJamba(await open(jambaGguf(model)), { backend });
  expect(loaded.config.layerTypes).toEqual(model.config.layerTypes);
  expect(loaded.config.expertLayers).toEqual(model.config.expertLayers);
  expect(loaded.config.mamba.innerNorm).toBe("weighted");
  // All but A, which passes through an exponential and back, and an epsilon in float32.
  expect(relativeError((await see(loaded, rows)).flat(2), (await see(model, rows)).flat(2))).toBeLessThan(1e-5);
  // Where transformers can say the layers it is said.
  if (_ !== "attention in no rhythm") expect(jambaConfigText(loaded.config)).toContain('"model_type": "jamba"');
  loaded.dispose();
  model.dispose();
});

test("in bf16 and q8_0: near, the router and the experts' format as documented", async () => {
  const wide: JambaConfig = { ...config, dModel: 32, dFeedForward: 32, nHeads: 4 };
  const model = perturbed(wide, backend);
  const want = (await see(model, rows)).flat(2);
  for (const [dtype, experts, limit] of [
    ["bf16", "bf16", 0.2],
    ["q8_0", "float32", 0.2],
  ] as const) {
    const file = jambaGguf(model, { dtype });
    expect(file.tensors.find((t) => t.name === "blk.1.ffn_gate_inp.weight")!.dtype).toBe("F32");
    const { model: loaded } = await loadJamba(await open(file), { backend, ...(dtype === "bf16" ? { dtype } : {}) });
    const parameters = new Map(loaded.namedParameters());
    expect(parameters.get("model.layers.1.feed_forward.experts.up_proj")!.value.dtype).toBe(experts);
    expect(parameters.get("model.layers.0.mamba.in_proj.weight")!.value.dtype).toBe(dtype);
    const error = relativeError((await see(loaded, rows)).flat(2), want);
    expect(error).toBeGreaterThan(1e-6);
    expect(error).toBeLessThan(limit);
    loaded.dispose();
  }
  model.dispose();
});

test.each<[string, (file: GgufToWrite) => GgufToWrite, string, RegExp]>([
  ["a key is missing", without("jamba.ssm.state_size"), "config", /jamba\.ssm\.state_size/],
  ["head counts for other layers", setting({ int32s: [0, 2] }), "config", /list of 4/],
  ["head counts that differ", setting({ int32s: [0, 2, 0, 1] }), "config", /2 and 1 key-value heads/],
  ["a tensor is missing", dropping("blk.2.ssm_b_norm.weight"), "checkpoint", /blk\.2\.ssm_b_norm\.weight is missing/],
  [
    "experts in no rhythm",
    dropping("blk.3.ffn_gate_inp.weight", "blk.0"),
    "config",
    /not one in every so many|missing/,
  ],
])("%s: an error that says so", async (_, change, code, message) => {
  const model = perturbed(config, backend);
  const file = await open(change(jambaGguf(model)));
  model.dispose();
  await expect(loadJamba(file, { backend })).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
});

function without(key: string) {
  return (file: GgufToWrite): GgufToWrite => {
    const { [key]: _, ...metadata } = file.metadata;
    return { ...file, metadata };
  };
}
function setting(value: { int32s: number[] }) {
  return (file: GgufToWrite): GgufToWrite => ({
    ...file,
    metadata: { ...file.metadata, "jamba.attention.head_count_kv": value },
  });
}
function dropping(name: string, from = "") {
  return (file: GgufToWrite): GgufToWrite => ({
    ...file,
    tensors: file.tensors.flatMap((t): TensorToWrite[] => {
      if (t.name !== name) return [t];
      return from === "" ? [] : [{ ...t, name: name.replace(/^blk\.\d+/, from) }];
    }),
  });
}

test.each<[string, Partial<JambaConfig>]>([
  ["biases", { bias: true }],
  ["no bias of the convolution", { convBias: false }],
  ["no norms of dt, B and C", { innerNorms: false }],
  ["another width", { expand: 3 }],
])("llama.cpp has it not, and that is said: %s", (_, extra) => {
  const model = Jamba.create({ ...config, ...extra }, { backend });
  expect(() => jambaGguf(model)).toThrow(expect.objectContaining({ code: "config" }));
  model.dispose();
});
