/** `mamba train` stopped, killed, out of room and resumed. */
import type { ChildProcess } from "node:child_process";
import { appendFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { bin, done, inFolder, isBuilt, mamba, run, tensorsOf } from "./support.js";

describe.skipIf(!isBuilt)("mamba", () => {
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

    test("--stop-after, then --reschedule: the same steps up to there, and a shorter schedule from there on", async () => {
      const out = "rescheduled";
      await done(...args(out, "--stop-after", "30"));
      expect(losses(out)).toEqual(losses("whole").slice(0, 30));
      const shorter = ["--resume", "--steps", "40"];
      const refused = await mamba(args(out, ...shorter));
      expect([refused.code, refused.stderr]).toEqual([2, expect.stringContaining("belongs to another run")]);
      // What else a run depends on may not change.
      expect((await mamba(args(out, ...shorter, "--reschedule", "--seed", "5"))).code).toBe(2);
      await done(...args(out, ...shorter, "--reschedule"));
      expect(losses(out).map(([step]) => step)).toEqual(Array.from({ length: 40 }, (_, i) => i + 1));
      const lines = logged(out).map((line) => JSON.parse(line) as { learningRate?: number; rescheduled?: object });
      expect(lines[31]!.rescheduled).toMatchObject({ after: 30, steps: 40 });
      // Near its end, where the long one is half-way.
      expect(lines.at(-1)!.learningRate!).toBeLessThan(2e-5);
      expect(losses(out)[30]).toEqual(losses("whole")[30]);
      expect(losses(out)[35]).not.toEqual(losses("whole")[35]);
    });

    test("Ctrl-C before the first step is done: a checkpoint is there, and --resume gives the same losses", async () => {
      const out = "at-once";
      // The log is begun just before the first step.
      const begun = (child: ChildProcess): void => {
        const timer = setInterval(() => {
          if (logged(out).length >= 1 && child.kill("SIGINT")) clearInterval(timer);
        }, 1);
        child.on("close", () => clearInterval(timer));
      };
      expect((await mamba(args(out), begun)).code).toBe(130);
      expect(existsSync(join(inFolder(out), "training.safetensors"))).toBe(true);
      await done(...args(out, "--resume"));
      expect(losses(out)).toEqual(losses("whole"));
    });

    test("Ctrl-C during an evaluation: it stops at once, and --resume catches up on it", async () => {
      const long = inFolder("long.txt");
      writeFileSync(long, "An evaluation that takes a while is stopped in its middle. ".repeat(5000));
      const more = ["--valid", long, "--eval-every", "40", "--eval-bytes", "0"];
      const validations = (out: string) =>
        logged(out).flatMap((line) => {
          const { step, validation } = JSON.parse(line) as { step?: number; validation?: number };
          return validation === undefined ? [] : [[step, validation]];
        });
      await done(...args("evaluated", ...more));
      expect(validations("evaluated").map(([step]) => step)).toEqual([40, 80]);
      const out = "evaluation-stopped";
      // Step 40 is logged only when it has been evaluated, or will not be.
      const stopped = await mamba(args(out, ...more), (child) => {
        const timer = setInterval(() => {
          if (logged(out).length === 40) {
            clearInterval(timer);
            setTimeout(() => child.kill("SIGINT"), 100);
          }
        }, 2);
      });
      expect(stopped.code).toBe(130);
      // On a slow machine the step before the evaluation may be what was stopped.
      expect([39, 40]).toContain(losses(out).length);
      expect(validations(out)).toEqual([]);
      await done(...args(out, ...more, "--resume"));
      expect(losses(out)).toEqual(losses("evaluated"));
      expect(validations(out)).toEqual(validations("evaluated"));
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
});
