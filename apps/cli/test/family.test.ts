/** Every model of the family through the commands, by model_type or by the tensors' names. */

import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { relativeError } from "@mamba-ts/backend-testing";
import { saveSafetensors } from "@mamba-ts/checkpoint/node";
import { describe, expect, test } from "vitest";
import { convert } from "../src/commands/convert.js";
import { evalModel } from "../src/commands/eval.js";
import { forward } from "../src/commands/forward.js";
import { generateText } from "../src/commands/generate.js";
import { inspect } from "../src/commands/inspect.js";
import { type TrainOptions, train } from "../src/commands/train.js";
import { textArchitectures } from "../src/lib/new-model.js";
import type { Output } from "../src/lib/output.js";
import { inFolder, tensorsOf } from "./support.js";

const fixturesOf = (name: string): string =>
  fileURLToPath(new URL(`../../../packages/${name}/test/fixtures`, import.meta.url));

/** What a command reports as JSON; every one must free all it took. */
async function run<T>(
  command: (
    options: T,
    context: { backend: ReturnType<typeof createCpuBackend>; output: Output; signal: AbortSignal },
  ) => Promise<void>,
  options: T,
  signal = new AbortController().signal,
  progress: (text: string) => void = () => {},
): Promise<{ readonly [key: string]: unknown }> {
  let result: unknown;
  const backend = createCpuBackend();
  const output: Output = { json: true, result: (_, data) => (result = data), note: () => {}, progress };
  try {
    await command(options, { backend, output, signal });
  } finally {
    expect(backend.memory().liveBuffers).toBe(0);
  }
  return result as { readonly [key: string]: unknown };
}

/** The gradients of single experts as the reference packs them. */
function pack(got: Map<string, { shape: readonly number[]; data: Float64Array }>, experts: number): void {
  const prefixes = new Set([...got.keys()].flatMap((name) => /^(grad\..*\.experts)\.\d/.exec(name)?.[1] ?? []));
  for (const prefix of prefixes) {
    const take = (e: number, kind: string): number[] => {
      const name = `${prefix}.${e}.${kind}_proj.weight`;
      const { data } = got.get(name)!;
      got.delete(name);
      return Array.from(data);
    };
    const each = Array.from({ length: experts }, (_, e) => e);
    const join2 = (kinds: string[]) => ({
      shape: [],
      data: Float64Array.from(each.flatMap((e) => kinds.flatMap((k) => take(e, k)))),
    });
    got.set(`${prefix}.gate_up_proj`, join2(["gate", "up"]));
    got.set(`${prefix}.down_proj`, join2(["down"]));
  }
}

test.each([
  ["jamba", /^(logits|loss|aux_loss|hidden_states\.|grad\.)/],
  ["vision-mamba", /^(logits|loss|grad\.)/],
])("forward --gradients of %s: the reference's numbers", async (name, compared) => {
  const golden = await tensorsOf(join(fixturesOf(name), "golden.safetensors"));
  const output = inFolder(`${name}.safetensors`);
  await run(forward, {
    model: fixturesOf(name),
    input: join(fixturesOf(name), "golden.safetensors"),
    output,
    gradients: true,
  });
  const got = await tensorsOf(output);
  if (name === "jamba") pack(got, 4);
  const wanted = [...golden.keys()].filter((key) => compared.test(key));
  expect([...got.keys()].sort()).toEqual(wanted.sort());
  for (const key of wanted) {
    const error = relativeError(got.get(key)!.data, golden.get(key)!.data);
    expect([key, error < (key.startsWith("grad.") ? 1e-4 : 1e-5)]).toEqual([key, true]);
  }
});

test("generate: Jamba's greedy tokens", async () => {
  const golden = await tensorsOf(join(fixturesOf("jamba"), "golden.safetensors"));
  const all = Array.from(golden.get("generate.greedy")!.data);
  const prompt = Array.from(golden.get("generate.prompt")!.data);
  const made = await run(generateText, {
    model: fixturesOf("jamba"),
    promptTokens: prompt,
    maxTokens: all.length - prompt.length,
    temperature: 0,
    topK: 0,
    topP: 1,
    minP: 0,
    repetitionPenalty: 1,
    seed: 0,
    stop: [],
  });
  expect(made["tokens"]).toEqual(all.slice(prompt.length));
});

test("inspect says what each is", async () => {
  const model = await tensorsOf(join(fixturesOf("jamba"), "model.safetensors"));
  expect(await run(inspect, { model: fixturesOf("jamba"), tensors: false })).toMatchObject({
    family: "jamba",
    config: {
      nExperts: 4,
      nKvHeads: 2,
      layerTypes: ["mamba", "mamba", "mamba", "mamba", "attention", "mamba", "mamba", "mamba"],
    },
    parameters: [...model.values()].reduce((n, t) => n + t.data.length, 0),
  });
  const jamba = await run(inspect, { model: fixturesOf("jamba"), tensors: false });
  // One attention layer: keys and values of 2 heads of width 8.
  expect((jamba["stateBytesAfter1024"] as number) - (jamba["stateBytesPerSequence"] as number)).toBe(1024 * 2 * 16 * 4);
  expect(await run(inspect, { model: fixturesOf("vision-mamba"), tensors: false })).toMatchObject({
    family: "vision_mamba",
    config: { bimamba: "v2", classToken: "middle", imageSize: [16, 16], nClasses: 10 },
  });
});

test("vision-mamba: train on images, eval, inspect", async () => {
  const file = inFolder("images.safetensors");
  // Bright on the left or on the right.
  const [n, size] = [16, 64];
  const pixels = Float32Array.from(
    { length: n * size },
    (_, i) => (i % 8 < 4 === ((i / size) & 1) > 0 ? 1 : -1) + Math.sin(i) / 4,
  );
  await saveSafetensors(file, [
    { name: "pixels", dtype: "F32", shape: [n, 1, 8, 8], bytes: () => new Uint8Array(pixels.buffer) },
    {
      name: "labels",
      dtype: "I32",
      shape: [n],
      bytes: () => new Uint8Array(Int32Array.from({ length: n }, (_, i) => i & 1).buffer),
    },
  ]);
  const out = inFolder("images");
  const options = {
    arch: "vision-mamba",
    data: [file],
    valid: file,
    except: [],
    out,
    dModel: 8,
    nLayer: 1,
    dState: 4,
    steps: 30,
    batch: 8,
    length: 1,
  } as const;
  const rest = {
    accumulate: 1,
    lr: 1e-2,
    finalLr: 1e-5,
    warmup: 2,
    weightDecay: 0,
    clip: 1,
    seed: 1,
    carry: false,
    recompute: false,
    dtype: "float32" as const,
    evalEvery: 10,
    evalBytes: 0,
    saveEvery: 10,
    resume: false,
  };
  await run(train, { ...options, ...rest });
  expect(await run(evalModel, { model: out, images: file, limit: 0, chunk: 1 })).toMatchObject({
    accuracy: 1,
    images: 16,
  });
  expect(await run(inspect, { model: out, tensors: false })).toMatchObject({
    family: "vision_mamba",
    config: { nClasses: 2, imageSize: [8, 8] },
  });
  await expect(run(train, { ...options, ...rest })).rejects.toMatchObject({ code: "invalid-argument" });
  await expect(run(train, { ...options, ...rest, carry: true })).rejects.toMatchObject({ code: "unsupported" });

  // Stopped anywhere and resumed, the losses are the same to the bit.
  const stopped = { ...options, ...rest, out: inFolder("images-stopped") };
  const controller = new AbortController();
  const at = "step 17/30";
  await expect(
    run(train, stopped, controller.signal, (text) => text.startsWith(at) && controller.abort()),
  ).rejects.toMatchObject({ name: "AbortError" });
  await run(train, { ...stopped, resume: true });
  const losses = (folder: string): number[] =>
    readFileSync(join(folder, "training.jsonl"), "utf8")
      .trim()
      .split("\n")
      .slice(1)
      .map((line) => (JSON.parse(line) as { loss: number }).loss);
  expect(losses(stopped.out)).toHaveLength(30);
  expect(losses(stopped.out)).toEqual(losses(out));
  await expect(run(train, { ...stopped, resume: true, lr: 0.5 })).rejects.toMatchObject({ code: "checkpoint" });
  await expect(run(evalModel, { model: fixturesOf("jamba"), images: file, limit: 0, chunk: 1 })).rejects.toMatchObject({
    code: "config",
  });
  await expect(
    run(train, {
      ...options,
      ...rest,
      out: inFolder("never"),
      data: [join(fixturesOf("jamba"), "golden.safetensors")],
    }),
  ).rejects.toMatchObject({ code: "data" });
});

describe.each(["jamba", "vision-mamba"])("convert %s", (name) => {
  test("to bf16 and back keeps names and shapes; float32 keeps every bit", async () => {
    const [same, narrow] = [inFolder(`${name}-same`), inFolder(`${name}-bf16`)];
    await run(convert, { model: fixturesOf(name), out: same, dtype: "float32", naming: "transformers" });
    await run(convert, { model: same, out: narrow, dtype: "bf16", naming: "transformers" });
    const [first, second, third] = await Promise.all(
      [fixturesOf(name), same, narrow].map((path) => tensorsOf(join(path, "model.safetensors"))),
    );
    expect([...second!.keys()].sort()).toEqual([...first!.keys()].sort());
    expect([...third!.keys()].sort()).toEqual([...first!.keys()].sort());
    for (const [key, { data, shape }] of first!) {
      expect(second!.get(key)).toEqual({ data, shape });
      expect(third!.get(key)!.shape).toEqual(shape);
      expect(relativeError(third!.get(key)!.data, data)).toBeLessThan(5e-3);
    }
  });
});

test("a naming a model has not, a type nobody knows, text for an image model: typed errors", async () => {
  const out = inFolder("never");
  await expect(
    run(convert, { model: fixturesOf("jamba"), out, dtype: "float32", naming: "state-spaces" }),
  ).rejects.toMatchObject({ code: "config" });
  const odd = inFolder("odd");
  cpSync(fixturesOf("jamba"), odd, { recursive: true });
  writeFileSync(join(odd, "config.json"), JSON.stringify({ model_type: "rwkv" }));
  await expect(run(inspect, { model: odd, tensors: false })).rejects.toMatchObject({
    code: "config",
    message: expect.stringContaining("rwkv"),
  });
  await expect(
    run(evalModel, { model: fixturesOf("vision-mamba"), text: "x", limit: 0, chunk: 8 }),
  ).rejects.toMatchObject({ code: "config" });
});

describe.each(textArchitectures)("%s", (arch) => {
  test("train, resume to the same losses, eval, generate, inspect, convert", async () => {
    const at = (name: string): string => inFolder(`${arch}-${name}`);
    writeFileSync(at("text.txt"), "she sells sea shells by the sea shore; ".repeat(20));
    writeFileSync(
      at("config.json"),
      JSON.stringify(arch === "jamba" ? { attnLayerPeriod: 2, attnLayerOffset: 1 } : {}),
    );
    const options = (out: string, steps: number): TrainOptions => ({
      arch,
      config: at("config.json"),
      data: [at("text.txt")],
      except: [],
      out: at(out),
      dModel: 16,
      nLayer: 2,
      dState: 4,
      steps,
      batch: 2,
      length: 24,
      accumulate: 1,
      lr: 1e-2,
      finalLr: 1e-5,
      warmup: 2,
      weightDecay: 0.1,
      clip: 1,
      seed: 1,
      carry: false,
      recompute: false,
      dtype: "float32" as const,
      evalEvery: 100,
      evalBytes: 100,
      saveEvery: 3,
      resume: false,
    });
    const losses = (out: string): number[] =>
      readFileSync(join(at(out), "training.jsonl"), "utf8")
        .split("\n")
        .flatMap((line) => (line.includes('"step"') ? [(JSON.parse(line) as { loss: number }).loss] : []));
    await run(train, options("whole", 8));
    const whole = losses("whole");
    expect(whole).toHaveLength(8);
    expect(whole.at(-1)!).toBeLessThan(whole[0]!);
    // Stopped after the checkpoint of step 3, and taken up again.
    const backend = createCpuBackend();
    const stop = new AbortController();
    const output: Output = {
      json: true,
      result: (_, d) => (d as { step?: number }).step === 4 && stop.abort(),
      note: () => {},
      progress: () => {},
    };
    await expect(train(options("parts", 8), { backend, output: output as never, signal: stop.signal })).rejects.toThrow(
      /abort/i,
    );
    await run(train, { ...options("parts", 8), resume: true });
    expect(losses("parts")).toEqual(whole);
    const seen = await run(inspect, { model: at("whole"), tensors: false });
    expect(seen["parameters"]).toBeGreaterThan(1000);
    const scored = await run(evalModel, { model: at("whole"), text: at("text.txt"), limit: 200, chunk: 50 });
    expect(scored["bitsPerByte"]).toBeLessThan(8);
    const made = await run(generateText, {
      model: at("whole"),
      prompt: "she ",
      maxTokens: 5,
      temperature: 0,
      topK: 0,
      topP: 1,
      minP: 0,
      repetitionPenalty: 1,
      seed: 0,
      stop: [],
    });
    expect(made["tokens"]).toHaveLength(5);
    await run(convert, { model: at("whole"), out: at("bf16"), dtype: "bf16", naming: "transformers" });
    const narrow = await run(evalModel, { model: at("bf16"), text: at("text.txt"), limit: 200, chunk: 50 });
    expect(Math.abs((narrow["bitsPerByte"] as number) - (scored["bitsPerByte"] as number))).toBeLessThan(0.05);
  });
});
