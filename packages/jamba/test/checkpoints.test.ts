import { fileURLToPath } from "node:url";
import { createCpuBackend } from "@mamba-ts/backend-cpu";
import {
  encodeSafetensors,
  memoryReader,
  openSafetensors,
  type TensorSource,
  type TensorToWrite,
} from "@mamba-ts/checkpoint";
import { openCheckpoint } from "@mamba-ts/checkpoint/node";
import { Jamba } from "@mamba-ts/jamba";
import {
  jambaConfigText,
  jambaTensors,
  loadJambaFrom,
  parseJambaConfig,
  toTransformersJambaConfig,
} from "@mamba-ts/jamba/load";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { perturbed, see, small } from "./support.js";

const backend = createCpuBackend({ poison: true });
const rows = [[1, 2, 3, 4, 5, 6, 7]];

/** A source of tensors that were renamed or repacked. */
async function rewritten(
  model: Jamba,
  change: (all: TensorToWrite[]) => TensorToWrite[] | Promise<TensorToWrite[]>,
): Promise<TensorSource> {
  return openSafetensors(memoryReader(await encodeSafetensors(await change(jambaTensors(model)), {}), "test"));
}

const rename = (from: RegExp, to: string) => (all: TensorToWrite[]) =>
  all.map((t) => ({ ...t, name: t.name.replace(from, to) }));

/** Experts as transformers 5 holds them in memory. */
async function pack(all: TensorToWrite[]): Promise<TensorToWrite[]> {
  const out = all.filter((t) => !t.name.includes(".experts."));
  const prefixes = new Set(all.flatMap((t) => /^(.*\.experts)\./.exec(t.name)?.[1] ?? []));
  const join = async (names: string[]) => {
    const parts = await Promise.all(names.map((n) => all.find((t) => t.name === n)!.bytes()));
    return Buffer.concat(parts);
  };
  for (const prefix of prefixes) {
    const count = all.filter((t) => t.name.startsWith(prefix) && t.name.endsWith("down_proj.weight")).length;
    const [f, d] = all.find((t) => t.name === `${prefix}.0.up_proj.weight`)!.shape as [number, number];
    const each = Array.from({ length: count }, (_, e) => e);
    const gateUp = await join(each.flatMap((e) => ["gate", "up"].map((k) => `${prefix}.${e}.${k}_proj.weight`)));
    const down = await join(each.map((e) => `${prefix}.${e}.down_proj.weight`));
    out.push(
      { name: `${prefix}.gate_up_proj`, dtype: "F32", shape: [count, 2 * f, d], bytes: () => gateUp },
      { name: `${prefix}.down_proj`, dtype: "F32", shape: [count, d, f], bytes: () => down },
    );
  }
  return out;
}

describe("all namings give the same model", () => {
  let model: Jamba;
  let want: number[][][];
  const config = JSON.parse(jambaConfigText(new Jamba(small).config)) as object;
  beforeAll(async () => {
    model = perturbed(small, backend);
    want = await see(model, rows);
  });
  afterAll(() => {
    model.dispose();
    expect(backend.memory().liveBuffers).toBe(0);
  });

  const dense = (all: TensorToWrite[]) =>
    rename(/\.feed_forward\.(gate|up|down)_proj/, ".feed_forward.experts.0.$1_proj")(all);
  test.each<[string, (all: TensorToWrite[]) => TensorToWrite[] | Promise<TensorToWrite[]>]>([
    ["transformers'", (all) => all],
    ["packed experts", pack],
    [".moe.", rename(/\.feed_forward\./, ".moe.")],
    ["pre_moe_layernorm", rename(/pre_ff_layernorm/, "pre_moe_layernorm")],
    ["dense layers as the only expert", dense],
    ["Mini-Jamba's", (all) => rename(/\.feed_forward\./, ".moe.")(dense(all))],
    [
      "w1, w2 and w3",
      (all) =>
        all.map((t) => ({
          ...t,
          name: t.name.replace(
            /(experts\.\d+)\.(gate|up|down)_proj/,
            (_, e: string, k: string) => `${e}.${{ gate: "w1", up: "w3", down: "w2" }[k]}`,
          ),
        })),
    ],
  ])("%s", async (_, change) => {
    const source = await rewritten(model, change);
    const other = await loadJambaFrom(config, source, { backend });
    expect(await see(other, rows)).toEqual(want);
    other.dispose();
  });

  test.each<[string, (all: TensorToWrite[]) => TensorToWrite[], RegExp]>([
    [
      "an expert is missing",
      (all) => all.filter((t) => !t.name.includes("experts.1.up_proj")),
      /experts\.up_proj has 2 experts/,
    ],
    ["the last expert is missing", (all) => all.filter((t) => !t.name.includes("experts.2.")), /\[2, 6, 8\]/],
    [
      "a norm is missing",
      (all) => all.filter((t) => !t.name.includes("layers.0.mamba.b_layernorm")),
      /b_layernorm.weight is missing/,
    ],
    ["a tensor is surplus", (all) => [...all, { ...all[0]!, name: "model.layers.9.odd" }], /belongs to nothing/],
  ])("%s: an error that says so", async (_, change, message) => {
    const source = await rewritten(model, change);
    await expect(loadJambaFrom(config, source, { backend })).rejects.toMatchObject({
      code: "checkpoint",
      message: expect.stringMatching(message),
    });
  });
});

test("what is written is what was read, bit for bit", async () => {
  const folder = fileURLToPath(new URL("./fixtures", import.meta.url));
  const { config, source } = await openCheckpoint(folder);
  const model = await loadJambaFrom(config, source, { backend });
  const written = jambaTensors(model);
  expect(written.map((t) => t.name).sort()).toEqual([...source.names].sort());
  for (const t of written) {
    expect(t.shape).toEqual(source.info(t.name).shape);
    expect(Buffer.from(await t.bytes()).equals(await source.bytes(t.name))).toBe(true);
  }
  await source.close();
  const given = config as Record<string, unknown>;
  const again = JSON.parse(jambaConfigText(model.config)) as Record<string, unknown>;
  for (const key of Object.keys(again)) if (key in given) expect([key, again[key]]).toEqual([key, given[key]]);
  expect(jambaConfigText(model.config)).toContain('"attention_dropout": 0.0');
  model.dispose();
});

test("routers' logits are asked for only where there are routers", () => {
  const asks = (nExperts: number) => toTransformersJambaConfig({ ...small, nExperts, topK: 1 })["output_router_logits"];
  expect([asks(3), asks(1)]).toEqual([true, false]);
});

test.each([
  ["a window", { sliding_window: 4096 }, /sliding_window/],
  ["another activation", { hidden_act: "gelu" }, /hidden_act/],
  ["a layer type nobody knows", { layers_block_type: ["mamba", "rwkv"] }, /layer 1 is of type "rwkv"/],
  ["text for a number", { num_experts: "4" }, /num_experts/],
  ["another model", { model_type: "mamba" }, /not a Jamba/],
])("a config with %s is refused", (_, extra, message) => {
  const json = { model_type: "jamba", hidden_size: 8, num_hidden_layers: 2, vocab_size: 11, ...extra };
  expect(() => parseJambaConfig(json)).toThrow(
    expect.objectContaining({ code: "config", message: expect.stringMatching(message) }),
  );
});
