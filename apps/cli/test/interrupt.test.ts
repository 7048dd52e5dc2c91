/** Ctrl-C, where backends compute at once and nothing else would get a turn: it ends long work soon, and says so by the exit code. */
import { writeFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { fixtures, inFolder, interrupt, isBuilt, mamba } from "./support.js";

const cases: [string, string[]][] = [
  ["generate", ["--model", fixtures, "--prompt-tokens", "1", "--max-tokens", "1000000"]],
  ["eval", ["--model", fixtures, "--text", inFolder("text.txt")]],
  ["eval", ["--model", fixtures, "--lambada", inFolder("passages.jsonl")]],
  ["demo", ["--max-tokens", "1000000"]],
  ["bench", ["--runs", "1000000", "--d-model", "8"]],
];

describe.skipIf(!isBuilt)("Ctrl-C", () => {
  beforeAll(() => {
    const passage = "A passage of some words, said again and again. ".repeat(20);
    writeFileSync(inFolder("text.txt"), passage.repeat(5000));
    writeFileSync(inFolder("passages.jsonl"), `${JSON.stringify({ text: passage })}\n`.repeat(5000));
  });

  test.each([
    ...cases.map(([command, args]) => [command, "cpu", args] as const),
    ...cases.slice(0, 1).map(([command, args]) => [command, "wasm", args] as const),
  ])("%s on %s", async (command, backend, args) => {
    const ended = await mamba([command, ...args, "--backend", backend], interrupt);
    expect(ended).toMatchObject({ code: 130, signal: null });
    expect(ended.stderr).toContain("interrupted");
  });
});
