/** The command as it is built, from outside: what it prints, writes and exits with. */
import { type ChildProcess, spawn } from "node:child_process";
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { readTensor } from "@mamba-ts/checkpoint";
import { openSafetensorsFile } from "@mamba-ts/checkpoint/node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const bin = fileURLToPath(new URL("../dist/bin.js", import.meta.url));
const fixtures = fileURLToPath(new URL("../../../packages/mamba/test/fixtures", import.meta.url));
/** A backend that this package does not know. */
const template = fileURLToPath(new URL("../../backend-template/dist/index.js", import.meta.url));
const isBuilt = existsSync(bin);
if (!isBuilt) console.warn("The tests of the command are left out: it is not built. Build first: npx pnpm@10 build");

const folder = mkdtempSync(join(tmpdir(), "cli-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const inFolder = (name: string): string => join(folder, name);
const written = (name: string, content: string): string => {
  writeFileSync(inFolder(name), content);
  return inFolder(name);
};

interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `mamba …`; `meanwhile` gets the process. */
function mamba(args: readonly string[], meanwhile?: (process: ChildProcess) => void): Promise<Ended> {
  return run(process.execPath, [bin, ...args], meanwhile);
}

function run(command: string, args: readonly string[], meanwhile?: (process: ChildProcess) => void): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
    let [stdout, stderr] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
    child.on("error", reject);
    child.on("close", (code, signal) => resolve({ code, signal, stdout, stderr }));
    meanwhile?.(child);
  });
}

/** Runs a command that must succeed. */
async function done(...args: string[]): Promise<Ended> {
  const ended = await mamba(args);
  if (ended.code !== 0) throw new Error(`mamba ${args.join(" ")}: exit code ${ended.code}\n${ended.stderr}`);
  return ended;
}

/** Every tensor of a file, by name. */
async function tensorsOf(path: string): Promise<Map<string, { shape: readonly number[]; data: Float64Array }>> {
  const backend = createCpuBackend();
  const source = await openSafetensorsFile(path);
  const all = new Map<string, { shape: readonly number[]; data: Float64Array }>();
  for (const name of source.names) {
    const t = await readTensor(source, name, backend);
    all.set(name, { shape: t.shape, data: Float64Array.from(await t.data()) });
    t.dispose();
  }
  await source.close();
  return all;
}

function relativeError(got: Float64Array | undefined, want: Float64Array): number {
  if (got?.length !== want.length) return Number.POSITIVE_INFINITY;
  return Math.hypot(...want.map((x, i) => x - got[i]!)) / Math.hypot(...want);
}

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

  describe("training", () => {
    const text = inFolder("text.txt");
    const steps = 80;
    const base = [
      "--data",
      text,
      "--d-model",
      "8",
      "--n-layer",
      "1",
      "--d-state",
      "4",
      "--batch",
      "2",
      "--length",
      "24",
    ];
    const args = (out: string, ...more: string[]): string[] => [
      ...["train", ...base, "--steps", String(steps), "--warmup", "5", "--out", inFolder(out), ...more],
    ];
    const logged = (out: string): string[] => {
      const path = join(inFolder(out), "training.jsonl");
      return existsSync(path) ? readFileSync(path, "utf8").split("\n").slice(0, -1) : [];
    };
    const losses = (out: string): (readonly [number, number])[] =>
      logged(out)
        .map((line) => JSON.parse(line) as { step?: number; loss?: number })
        .flatMap(({ step, loss }) => (step === undefined ? [] : [[step, loss!] as const]));
    /** Sends a signal once so many steps are logged. */
    const after = (out: string, lines: number, signal: NodeJS.Signals) => (child: ChildProcess) => {
      const timer = setInterval(() => {
        if (logged(out).length >= lines && child.kill(signal)) clearInterval(timer);
      }, 2);
      child.on("close", () => clearInterval(timer));
    };

    beforeAll(async () => {
      writeFileSync(text, "The quick brown fox jumps over the lazy dog, and then it rests for a while. ".repeat(20));
      await done(...args("whole"));
      await done(...args("whole-carried", "--carry", "--accumulate", "2"));
      expect(losses("whole").map(([step]) => step)).toEqual(Array.from({ length: steps }, (_, i) => i + 1));
    });

    test.each([
      ["whole", []],
      ["whole-carried", ["--carry", "--accumulate", "2"]],
    ])("Ctrl-C in the middle, then --resume: the losses of an uninterrupted run (%s)", async (whole, more) => {
      const out = `interrupted-${whole}`;
      const stopped = await mamba(args(out, ...more), after(out, 5 + Math.floor(30 * Math.random()), "SIGINT"));
      expect(stopped.code).toBe(130);
      const reached = losses(out).length;
      expect(reached).toBeLessThan(steps);
      expect(losses(out)).toEqual(losses(whole).slice(0, reached));
      await done(...args(out, ...more, "--resume"));
      expect(losses(out)).toEqual(losses(whole));
      const [a, b] = await Promise.all([out, whole].map((o) => tensorsOf(join(inFolder(o), "model.safetensors"))));
      expect(a).toEqual(b);
    });

    test("killed without warning, a line of the log torn: --resume goes on from the last checkpoint", async () => {
      const out = "killed";
      const stopped = await mamba(args(out, "--save-every", "10"), after(out, 25, "SIGKILL"));
      expect(stopped.signal).toBe("SIGKILL");
      appendFileSync(join(inFolder(out), "training.jsonl"), '{"step":1');
      await done(...args(out, "--save-every", "10", "--resume"));
      expect(losses(out)).toEqual(losses("whole"));
    });

    test("--resume with other options is refused, and changes nothing", async () => {
      const files = ["training.safetensors", "training.jsonl", "model.safetensors"].map((f) =>
        join(inFolder("whole"), f),
      );
      const before = files.map((f) => readFileSync(f));
      const ended = await mamba(args("whole", "--resume", "--lr", "0.5"));
      expect(ended.code).toBe(2);
      expect(ended.stderr).toMatch(/training\.safetensors belongs to another run/);
      expect(files.map((f) => readFileSync(f))).toEqual(before);
    });

    test("a run that is there already is not written over", async () => {
      const before = logged("whole");
      const ended = await mamba(args("whole"));
      expect(ended.code).toBe(2);
      expect(ended.stderr).toMatch(/whole holds a training run already\nHint: --resume/);
      expect(logged("whole")).toEqual(before);
    });

    test.skipIf(process.platform === "win32")(
      "no room while saving: the file is named, nothing half-written stays, and the checkpoint before goes on",
      async () => {
        const out = "full";
        const short = ["--save-every", "10"];
        const stopped = await mamba(args(out, ...short), after(out, 15, "SIGKILL"));
        expect(stopped.signal).toBe("SIGKILL");
        const checkpoint = join(inFolder(out), "training.safetensors");
        const before = readFileSync(checkpoint);
        // A limit on the size of a file fails a write in its middle, as a full disk does.
        const limited = ["-c", 'trap "" XFSZ; ulimit -f 16; exec "$@"', "bash", process.execPath, bin];
        const ended = await run("bash", [...limited, ...args(out, ...short, "--resume")]);
        expect(ended.code).not.toBe(0);
        expect(ended.stderr).toMatch(/full.training\.safetensors could not be written: the disk is full/);
        expect(readdirSync(inFolder(out)).filter((name) => name.includes("tmp"))).toEqual([]);
        expect(readFileSync(checkpoint)).toEqual(before);
        await done(...args(out, ...short, "--resume"));
        expect(losses(out)).toEqual(losses("whole"));
      },
    );

    test("--json: one object per step; the model it saves can be evaluated", async () => {
      const { stdout } = await done(...args("json", "--steps", "3", "--valid", text, "--eval-every", "2", "--json"));
      const lines = stdout
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as Record<string, unknown>);
      expect(lines.slice(0, 3).map(({ step }) => step)).toEqual([1, 2, 3]);
      expect(lines.map((line) => "validation" in line)).toEqual([false, true, true, false]);
      const evaluated = await done("eval", "--model", inFolder("json"), "--text", text, "--json");
      const { bitsPerByte, tokens } = JSON.parse(evaluated.stdout) as { bitsPerByte: number; tokens: number };
      expect(tokens).toBe(readFileSync(text).length - 1);
      expect(bitsPerByte).toBeCloseTo(lines[2]!["validation"] as number, 6);
    });
  });

  describe("bad input: exit code 2, and the file or option is named", () => {
    /** A model's folder whose weights are cut off after `bytes`. */
    const truncated = (bytes: number): string => {
      const path = inFolder(`truncated-${bytes}`);
      mkdirSync(path, { recursive: true });
      cpSync(join(fixtures, "config.json"), join(path, "config.json"));
      writeFileSync(
        join(path, "model.safetensors"),
        readFileSync(join(fixtures, "model.safetensors")).subarray(0, bytes),
      );
      return path;
    };
    const tokens = ["--prompt-tokens", "1,2"];
    const cases: [string, () => string[], RegExp][] = [
      ["a missing folder", () => ["generate", "--model", inFolder("nowhere"), ...tokens], /nowhere/],
      ["no folder given", () => ["inspect"], /--model/],
      [
        "an empty weights file",
        () => ["generate", "--model", truncated(0), ...tokens],
        /truncated-0.model\.safetensors/,
      ],
      ["a header cut off", () => ["inspect", "--model", truncated(700)], /truncated-700.model\.safetensors/],
      [
        "weights cut off",
        () => ["generate", "--model", truncated(90_000), ...tokens],
        /truncated-90000.model\.safetensors/,
      ],
      [
        "an empty training file",
        () => ["train", "--data", written("empty.txt", ""), "--out", inFolder("out")],
        /empty\.txt/,
      ],
      [
        "a short training file",
        () => ["train", "--data", written("short.txt", "ab"), "--out", inFolder("out")],
        /short\.txt/,
      ],
      [
        "a missing training file",
        () => ["train", "--data", inFolder("none.txt"), "--out", inFolder("out")],
        /none\.txt/,
      ],
      [
        "an unknown dtype",
        () => ["convert", "--model", fixtures, "--out", inFolder("out"), "--dtype", "int7"],
        /--dtype is int7/,
      ],
      [
        "an unknown naming",
        () => ["convert", "--model", fixtures, "--out", inFolder("out"), "--naming", "x"],
        /--naming is x/,
      ],
      ["converting onto itself", () => ["convert", "--model", fixtures, "--out", fixtures], /--out/],
      ["a number out of range", () => ["generate", "--model", fixtures, ...tokens, "--top-p", "2"], /--top-p is 2/],
      ["tokens that are none", () => ["generate", "--model", fixtures, "--prompt-tokens", "1,x"], /--prompt-tokens/],
      ["a token out of range", () => ["generate", "--model", fixtures, "--prompt-tokens", "256"], /256 at row 0/],
      ["an empty prompt", () => ["generate", "--model", fixtures, "--prompt", ""], /empty/],
      ["no prompt", () => ["generate", "--model", fixtures], /--prompt/],
      ["an unknown backend", () => ["generate", "--model", fixtures, ...tokens, "--backend", "abacus"], /abacus/],
      ["an unknown option", () => ["generate", "--model", fixtures, "--loud"], /--loud/],
      ["an unknown command", () => ["dream"], /dream/],
      [
        "no input_ids",
        () => [
          "forward",
          "--model",
          fixtures,
          "--input",
          join(fixtures, "model.safetensors"),
          "--output",
          inFolder("x"),
        ],
        /model\.safetensors.*input_ids|input_ids.*model\.safetensors/s,
      ],
      [
        "text that is no JSON",
        () => ["eval", "--model", fixtures, "--lambada", written("bad.jsonl", "{")],
        /bad\.jsonl: line 1/,
      ],
    ];
    test.each(cases)("%s", async (_, args, message) => {
      const json = await mamba([...args(), "--json"]);
      expect(json).toMatchObject({ code: 2, stdout: "" });
      const { error } = JSON.parse(json.stderr) as { error: { code: string; message: string } };
      expect(error.message).toMatch(message);
      expect(error.code).toMatch(/^(invalid-argument|checkpoint|data|config|shape)$/);
      for (const file of ["out", "x"]) expect(existsSync(inFolder(file))).toBe(false);
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
    const found = JSON.parse((await done("backends", "--json")).stdout) as { name: string; available: boolean }[];
    expect(found.find(({ name }) => name === "cpu")).toMatchObject({ available: true, device: expect.any(String) });
    for (const { available, ...rest } of found) expect(available || "reason" in rest).toBe(true);
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
