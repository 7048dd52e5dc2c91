/** The command as it is built, from outside: what it prints, writes and exits with. */

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { relativeError } from "@mamba-ts/backend-testing";
import { beforeAll, describe, expect, test } from "vitest";
import { done, fixtures, inFolder, isBuilt, mamba, template, tensorsOf, written } from "./support.js";

describe.skipIf(!isBuilt)("mamba", () => {
  describe("on the reference's model", () => {
    let golden: Awaited<ReturnType<typeof tensorsOf>>;
    beforeAll(async () => {
      golden = await tensorsOf(join(fixtures, "golden.safetensors"));
    });

    test("forward --gradients: logits, loss and hidden states to 1e-5, every gradient to 1e-4", async () => {
      const output = inFolder("forward.safetensors");
      const input = join(fixtures, "golden.safetensors");
      const { stdout } = await done(
        "forward",
        "--model",
        fixtures,
        "--input",
        input,
        "--output",
        output,
        "--gradients",
        "--json",
      );
      const got = await tensorsOf(output);
      expect(new Set((JSON.parse(stdout) as { tensors: string[] }).tensors)).toEqual(new Set(got.keys()));
      const compared = [...golden.keys()].filter((name) => /^(logits|loss|hidden_states\.|grad\.)/.test(name));
      expect(compared.filter((name) => name.startsWith("grad."))).toHaveLength(32);
      expect([...got.keys()].sort()).toEqual([...compared].sort());
      for (const name of compared) {
        const error = relativeError(got.get(name)!.data, golden.get(name)!.data);
        expect([name, error < (name.startsWith("grad.") ? 1e-4 : 1e-5)]).toEqual([name, true]);
      }
    });

    test("generate --temperature 0: the reference's greedy tokens", async () => {
      const all = Array.from(golden.get("generate.greedy")!.data);
      const prompt = Array.from(golden.get("generate.prompt")!.data);
      const wanted = all.slice(prompt.length);
      const args = ["generate", "--model", fixtures, "--prompt-tokens", prompt.join(), "--temperature", "0"];
      const { stdout } = await done(...args, "--max-tokens", String(wanted.length), "--json");
      expect(JSON.parse(stdout)).toMatchObject({ prompt, tokens: wanted, reason: "length" });
      const plain = await done(...args, "--max-tokens", String(wanted.length));
      expect(plain.stdout.trim()).toBe(wanted.join());
    });

    test("inspect: config, parameters and tensors, as they are", async () => {
      const { stdout } = await done("inspect", "--model", fixtures, "--tensors", "--json");
      const seen = JSON.parse(stdout) as { list: { name: string; shape: number[] }[]; parameters: number };
      expect(seen).toMatchObject({
        config: { dModel: 32, nLayer: 3, vocabSize: 256, dState: 16, norm: "rms", tieEmbeddings: true },
        naming: "transformers",
        tensors: 32,
      });
      const model = await tensorsOf(join(fixtures, "model.safetensors"));
      expect(seen.list.map(({ name }) => name).sort()).toEqual([...model.keys()].sort());
      expect(seen.parameters).toBe([...model.values()].reduce((n, t) => n + t.data.length, 0));
      const plain = await done("inspect", "--model", fixtures);
      expect(plain.stdout).toMatch(/dModel +32/);
      expect(plain.stdout).not.toContain("\x1b");
    });

    test("convert to the other naming and back: the same tensors", async () => {
      const [there, back] = [inFolder("there"), inFolder("back")];
      await done("convert", "--model", fixtures, "--out", there, "--naming", "state-spaces");
      await done("convert", "--model", there, "--out", back, "--naming", "transformers");
      const [first, middle, last] = await Promise.all(
        [fixtures, there, back].map((path) => tensorsOf(join(path, "model.safetensors"))),
      );
      expect(middle!.has("backbone.embedding.weight")).toBe(true);
      expect(middle!.has("backbone.embeddings.weight")).toBe(false);
      expect(new Map([...last!].sort())).toEqual(new Map([...first!].sort()));
      const config = async (path: string) =>
        JSON.parse((await done("inspect", "--model", path, "--json")).stdout) as { config: object; naming: string };
      const [a, b, c] = [await config(fixtures), await config(there), await config(back)];
      expect([a.naming, b.naming, c.naming]).toEqual(["transformers", "state-spaces", "transformers"]);
      expect(c.config).toEqual(a.config);
      // The same model under either name.
      const args = ["--prompt-tokens", "1,2,3", "--temperature", "0", "--max-tokens", "8", "--json"];
      const tokens = async (path: string) =>
        (JSON.parse((await done("generate", "--model", path, ...args)).stdout) as { tokens: number[] }).tokens;
      expect(await tokens(there)).toEqual(await tokens(fixtures));
    });

    test("convert to GGUF and to blocks: read as they are, and evaluated nearly alike", async () => {
      const text = written(
        "evaluated.txt",
        "It was a bright cold day in April, and the clocks were striking. ".repeat(4),
      );
      const bits = async (path: string): Promise<number> =>
        (JSON.parse((await done("eval", "--model", path, "--text", text, "--json")).stdout) as { bitsPerByte: number })
          .bitsPerByte;
      const exact = await bits(fixtures);
      const [gguf, blocks, back] = [inFolder("model.gguf"), inFolder("blocks"), inFolder("from-gguf")];
      await done("convert", "--model", fixtures, "--out", gguf);
      expect(await bits(gguf)).toBeCloseTo(exact, 5);
      await done("convert", "--model", gguf, "--out", back);
      const [first, last] = await Promise.all([fixtures, back].map((p) => tensorsOf(join(p, "model.safetensors"))));
      expect([...last!.keys()].sort()).toEqual([...first!.keys()].sort());
      await done("convert", "--model", gguf, "--out", blocks, "--dtype", "q8_0");
      await done("convert", "--model", fixtures, "--out", gguf, "--dtype", "q8_0");
      const parameters = async (path: string): Promise<unknown> =>
        JSON.parse((await done("inspect", "--model", path, "--json")).stdout).parameters;
      expect(await parameters(gguf)).toBe(await parameters(fixtures));
      const seen = JSON.parse((await done("inspect", "--model", blocks, "--tensors", "--json")).stdout) as {
        list: { name: string; dtype: string }[];
      };
      expect(seen.list.filter(({ dtype }) => dtype === "Q8_0").length).toBeGreaterThan(2);
      expect(await bits(blocks)).not.toBe(exact);
      expect(await bits(blocks)).toBeCloseTo(exact, 1);
      expect(await bits(gguf)).toBeCloseTo(await bits(blocks), 5);
    });
  });

  test("without --json an error is one line for people, without colour or stack where there is no terminal", async () => {
    const ended = await mamba(["inspect", "--model", inFolder("nowhere")]);
    expect(ended).toMatchObject({ code: 2, stdout: "" });
    expect(ended.stderr.trim()).toMatch(/^error: \S*nowhere does not exist$/);
    const usage = await mamba(["inspect"]);
    expect(usage).toMatchObject({ code: 2, stdout: "" });
    expect(usage.stderr).toMatch(/--model.*\n\nUsage: mamba inspect/s);
  });

  test("backends --json", async () => {
    const found = JSON.parse((await done("backends", "--json")).stdout) as {
      name: string;
      available: boolean;
      device?: string;
      adapters?: { name: string; isChosen: boolean; limits: object; features: string[] }[];
    }[];
    expect(found.find(({ name }) => name === "cpu")).toMatchObject({ available: true, device: expect.any(String) });
    for (const { available, ...rest } of found) expect(available || "reason" in rest).toBe(true);
    const { available, adapters, device } = found.find(({ name }) => name === "webgpu")!;
    const chosen = { name: device, isChosen: true, limits: { maxBufferSize: expect.any(Number) } };
    if (available) expect(adapters!.filter(({ isChosen }) => isChosen)).toMatchObject([chosen]);
  });

  test.skipIf(!existsSync(template))("--backend PATH: somebody else's backend generates and trains", async () => {
    const name = (text: string) => (JSON.parse(text) as { backend: string }).backend;
    const tokens = ["--prompt-tokens", "1,2,3", "--temperature", "0", "--max-tokens", "4", "--json"];
    const generate = (backend: string) => done("generate", "--model", fixtures, ...tokens, "--backend", backend);
    const [theirs, ours] = await Promise.all([generate(template), generate("cpu")]);
    expect(JSON.parse(theirs.stdout)).toMatchObject({
      tokens: (JSON.parse(ours.stdout) as { tokens: number[] }).tokens,
    });
    const measured = await done(
      "bench",
      "--backend",
      template,
      "--d-model",
      "8",
      "--length",
      "8",
      "--runs",
      "1",
      "--json",
    );
    expect(name(measured.stdout)).toBe("template");
    const data = written("template.txt", "Somebody else's backend learns this. ".repeat(10));
    const small = ["--d-model", "8", "--n-layer", "1", "--length", "16", "--batch", "1", "--steps", "2"];
    await done("train", "--data", data, "--out", inFolder("template"), ...small, "--backend", template);
    expect(readFileSync(join(inFolder("template"), "training.jsonl"), "utf8")).toMatch(/"backend":"template"/);
  });

  test("bench: rates beside bounds, and what ran fused", async () => {
    const sizes = ["--d-model", "8", "--n-layer", "2", "--d-state", "4", "--length", "16", "--runs", "2"];
    const { stdout } = await done("bench", ...sizes, "--backend", "cpu", "--json");
    const { reports } = JSON.parse(stdout) as {
      reports: { what: string; tokensPerSecond: number; bound: { fraction: number }; ops: object[] }[];
    };
    expect(reports.map(({ what }) => what)).toEqual(["decode", "prefill", "training step"]);
    for (const { tokensPerSecond, bound } of reports) {
      expect(tokensPerSecond).toBeGreaterThan(0);
      expect(bound.fraction).toBeGreaterThan(0);
    }
    const scan = { op: "selectiveScan", how: "fused", times: 2 };
    expect(reports[2]!.ops).toEqual(
      expect.arrayContaining([
        { ...scan, direction: "forward" },
        { ...scan, direction: "backward" },
      ]),
    );
    expect((await done("bench", ...sizes, "--backend", "cpu")).stdout).toMatch(/decode: [\d,]+ tokens\/s/);
  });

  test("--version", async () => {
    expect((await done("--version")).stdout).toMatch(/^\d+\.\d+\.\d+/);
  });

  test("every command has --help", async () => {
    const { stdout } = await done("--help");
    const commands = [...stdout.matchAll(/^ {2}(\w+) \[/gm)].map((m) => m[1]!).filter((name) => name !== "help");
    expect(commands).toEqual(
      expect.arrayContaining([
        "train",
        "generate",
        "eval",
        "forward",
        "inspect",
        "convert",
        "bench",
        "backends",
        "demo",
      ]),
    );
    for (const help of await Promise.all(commands.map((name) => done(name, "--help")))) {
      expect(help.stdout).toMatch(/Usage: mamba/);
      expect(help.stdout).toContain("--json");
    }
  });
});
