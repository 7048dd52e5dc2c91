/**
 * Whether llama.cpp and this project compute the same from a GGUF file:
 *   LLAMA_CPP=FOLDER node apps/bench/dist/llama-agree.js [FILE.gguf...]
 *   LLAMA_CPP=FOLDER node apps/bench/dist/llama-agree.js [--d-model N] [--n-layer N] [--keep FOLDER]
 * Without files, models with random weights in float32, f16, bf16 and q8_0, of mamba-130m's shape unless another is given, and a small
 * Jamba; --keep leaves their files. Prints how far llama.cpp's log-probabilities are from ours (a relative norm, each position's mean taken away) and fails
 * beyond what the format's precision makes of it: llama.cpp rounds activations to the format too, we do not.
 */
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { basename, join } from "node:path";
import { parseArgs } from "node:util";
import { isMambaError } from "@mamba-ts/backend";
import { createBackend } from "@mamba-ts/backend-wasm";
import { openCheckpoint } from "@mamba-ts/checkpoint/node";
import { loadJambaFrom } from "@mamba-ts/jamba/load";
import { loadMambaFrom } from "@mamba-ts/mamba/load";
import { type Llama, llamaLogProbabilities, openLlama } from "./llama.js";
import { randomGguf, randomJamba, shape130m } from "./random-model.js";

const text = "It was a bright cold day in April, and the clocks were striking thirteen.";

function centred(rows: readonly Float64Array[]): Float64Array[] {
  return rows.map((row) => {
    const mean = row.reduce((a, b) => a + b, 0) / row.length;
    return row.map((x) => x - mean);
  });
}

function distance(a: readonly Float64Array[], b: readonly Float64Array[]): number {
  let [differences, norm] = [0, 0];
  for (const [i, row] of b.entries())
    for (const [j, x] of row.entries()) {
      differences += (a[i]![j]! - x) ** 2;
      norm += x ** 2;
    }
  return Math.sqrt(differences / norm);
}

/** Our logits after every byte, [bytes][vocabSize]. */
async function ours(path: string, tokens: readonly number[]): Promise<Float64Array[]> {
  using backend = await createBackend();
  const { config, source } = await openCheckpoint(path);
  const isJamba = (config as { readonly "general.architecture"?: unknown })["general.architecture"] === "jamba";
  using model = await (isJamba ? loadJambaFrom : loadMambaFrom)(config, source, { backend });
  await source.close();
  using logits = model.forward([tokens]).logits!;
  const data = await logits.data();
  const width = logits.shape.at(-1)!;
  return tokens.map((_, i) => Float64Array.from(data.subarray(i * width, (i + 1) * width)));
}

/** How far apart they may be; files of any other kind as q8_0. llama.cpp keeps keys and values in f16. */
const bounds: { readonly [name: string]: number } = {
  float32: 1e-5,
  "jamba, float32": 1e-3,
  f16: 2e-3,
  bf16: 1e-2,
  q8_0: 3e-2,
};

async function compare(llama: Llama, path: string, name: string): Promise<boolean> {
  const tokens = [...new TextEncoder().encode(text)];
  const far = distance(centred(await llamaLogProbabilities(llama, path, tokens)), centred(await ours(path, tokens)));
  const bound = bounds[name] ?? bounds["q8_0"]!;
  const megabytes = (statSync(path).size / 1e6).toFixed(1);
  console.log(`${name.padEnd(24)} ${megabytes.padStart(7)} MB  ${far.toExponential(1)}, at most ${bound}`);
  return far <= bound;
}

async function main(): Promise<boolean> {
  const { values, positionals: files } = parseArgs({
    allowPositionals: true,
    options: { "d-model": { type: "string" }, "n-layer": { type: "string" }, keep: { type: "string" } },
  });
  const llama = await openLlama(process.env["LLAMA_CPP"], cpus().length);
  const { release } = llama.llamaCppRelease;
  console.log(`llama.cpp ${release} by node-llama-cpp, ${tokenCount()} tokens, ${cpus()[0]?.model.trim()}`);
  let agree = true;
  for (const file of files) agree = (await compare(llama, file, basename(file))) && agree;
  if (files.length > 0) return agree;
  const config = {
    ...shape130m,
    ...(values["d-model"] && { dModel: Number(values["d-model"]) }),
    ...(values["n-layer"] && { nLayer: Number(values["n-layer"]) }),
  };
  const folder = values.keep ?? mkdtempSync(join(tmpdir(), "llama-agree-"));
  try {
    for (const dtype of ["float32", "f16", "bf16", "q8_0"] as const) {
      using backend = await createBackend();
      const path = await randomGguf(folder, dtype, { backend, config });
      agree = (await compare(llama, path, dtype)) && agree;
      if (values.keep === undefined) rmSync(path);
    }
    using backend = await createBackend();
    agree = (await compare(llama, await randomJamba(folder, { backend }), "jamba, float32")) && agree;
  } finally {
    if (values.keep === undefined) rmSync(folder, { recursive: true, force: true });
  }
  return agree;
}

function tokenCount(): number {
  return new TextEncoder().encode(text).length;
}

await main().then(
  (agree) => process.exit(agree ? 0 : 1),
  (error: unknown) => {
    console.error(isMambaError(error) ? `${error.message}\n${error.hint ?? ""}` : error);
    process.exit(1);
  },
);
