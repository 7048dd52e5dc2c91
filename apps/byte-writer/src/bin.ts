// See README.md.
import { createHash } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { commitOf } from "@mamba-ts/app-figures";
import { type Backend, isMambaError } from "@mamba-ts/backend";
import { createBackend } from "@mamba-ts/backend-wasm";
import { booksFolder, heldOut, heldOutText } from "./books.js";
import { measure, promptsOf, write } from "./measure.js";
import { byteModelFolder, drafterFolder, openBytes, openSubwords } from "./models.js";
import { robustness, robustnessPicture } from "./robustness.js";
import { surprise, surprisePicture } from "./surprise.js";
import { trainDrafter } from "./train-drafter.js";

const usage = `usage: node dist/bin.js write         [--prompt TEXT] [--max-tokens N]
       node dist/bin.js surprise      [--text FILE] [--out FOLDER]
       node dist/bin.js measure       [--out FOLDER] [--quick]
       node dist/bin.js robustness    [--out FOLDER] [--quick]
       node dist/bin.js pictures      [--out FOLDER] [--quick]   all of the last three
       node dist/bin.js train-drafter [--out FOLDER] [--steps N] [--quick]
all:   [--model FOLDER] [--drafter FOLDER] [--books FOLDER]`;

const option = (value: string) => ({ type: "string", default: value }) as const;

interface Options {
  readonly model: string;
  readonly drafter: string;
  readonly books: string;
  readonly out: string;
  readonly quick: boolean;
  readonly prompt: string;
  readonly text: string | undefined;
  readonly maxTokens: number;
  readonly steps: number;
}

/** What a result was made from. */
async function provenance({ books, quick }: Options): Promise<object> {
  const sha256 = createHash("sha256")
    .update(await readFile(join(books, heldOut)))
    .digest("hex");
  const commit = commitOf(fileURLToPath(new URL(".", import.meta.url)));
  return { commit, seed: 7, text: heldOut, sha256, quick };
}

async function put(options: Options, name: string, content: string | object): Promise<void> {
  await mkdir(options.out, { recursive: true });
  const text =
    typeof content === "string"
      ? content
      : `${JSON.stringify({ ...(await provenance(options)), ...content }, null, 2)}\n`;
  await writeFile(join(options.out, name), text);
}

async function runSurprise(options: Options, backend: Backend): Promise<void> {
  const { model, books, text: path } = options;
  using bytes = await openBytes(model, backend);
  // A page from the middle of the book.
  const text = path === undefined ? (await heldOutText(books)).subarray(60_000, 60_900) : await readFile(path);
  const bits = await surprise(bytes, text);
  const mean = bits.subarray(1).reduce((a, b) => a + b, 0) / (bits.length - 1);
  console.log(`${text.length} bytes, ${mean.toFixed(3)} bits each on average`);
  await put(options, "surprise.svg", surprisePicture(text, bits));
}

async function runMeasure(options: Options, backend: Backend): Promise<void> {
  const { model, drafter, books, quick } = options;
  using bytes = await openBytes(model, backend);
  const subwords = await openSubwords(drafter, backend);
  const prompts = promptsOf(await heldOutText(books), quick ? 3 : 8, 200);
  const results = [];
  for (const [count, minProbability, beta, toBoundary] of [
    // As in the paper, exact and with beta 3; then drafting within words, which ends where the drafter is not sure.
    [3, 0, 1, true],
    [3, 0, 3, true],
    [3, 0.3, 1, false],
    [3, 0.3, 3, false],
  ] as const) {
    const drafting = { subwords: count, minProbability, beta, toBoundary };
    const result = await measure(bytes, subwords, drafting, { prompts, maxTokens: quick ? 60 : 160 });
    results.push(result);
    console.log(
      `${count} subwords per draft, from a probability of ${minProbability}, beta ${beta}${toBoundary ? ", alone to the boundary" : ""}: ` +
        `${result.plainBytesPerSecond} -> ${result.draftedBytesPerSecond} bytes per second (${result.speedUp} times, ${result.range.join(" to ")}), ` +
        `${(100 * result.acceptance).toFixed(1)} % of drafted bytes kept, ${(100 * result.drafted).toFixed(1)} % of all bytes drafted, ${result.bytesPerPass} bytes per pass, ` +
        `${result.different} of ${prompts.length} continuations differ, ${result.differentBeyondMargin} of them beyond a margin of 1e-4`,
    );
  }
  subwords.model.dispose();
  await put(options, "measure.json", { device: backend.device, results });
}

async function runRobustness(options: Options, backend: Backend): Promise<void> {
  const { model, drafter, books, quick } = options;
  using bytes = await openBytes(model, backend);
  const subwords = await openSubwords(drafter, backend);
  const rows = await robustness(bytes, subwords, (await heldOutText(books)).subarray(20_000, quick ? 22_000 : 30_000));
  for (const { noise, bytes: own, subwords: other } of rows)
    console.log(`${noise.padEnd(20)} bytes ${own.toFixed(3)}, subwords ${other.toFixed(3)} bits per byte`);
  const parameters = { bytes: bytes.parameterCount, subwords: subwords.model.parameterCount };
  subwords.model.dispose();
  await put(options, "robustness.json", { parameters, rows });
  await put(options, "robustness.svg", robustnessPicture(rows));
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      model: option(byteModelFolder),
      drafter: option(drafterFolder),
      books: option(""),
      out: option(""),
      prompt: option("It was a bright cold morning, and "),
      text: { type: "string" },
      "max-tokens": option("200"),
      steps: option("700"),
      quick: { type: "boolean", default: false },
    },
  });
  const [command] = positionals;
  const { "max-tokens": maxTokens, steps, ...rest } = values;
  const results = fileURLToPath(new URL("../results", import.meta.url));
  const options: Options = {
    ...rest,
    text: values.text,
    books: values.books === "" ? booksFolder() : values.books,
    out: values.out === "" ? (command === "train-drafter" ? values.drafter : results) : values.out,
    maxTokens: Number(maxTokens),
    steps: values.quick ? 10 : Number(steps),
  };
  if (!(options.maxTokens >= 1) || !(options.steps >= 1))
    throw new RangeError("--max-tokens and --steps are at least 1");
  using backend = await createBackend();
  switch (command) {
    case "write": {
      using bytes = await openBytes(options.model, backend);
      const subwords = await openSubwords(options.drafter, backend);
      process.stdout.write(options.prompt);
      const report = await write(
        bytes,
        subwords,
        options.prompt,
        options.maxTokens,
        (text) => void process.stdout.write(text),
      );
      console.error(`\n\n[drafted]: ${report.accepted} of ${report.tokens} bytes, in ${report.passes} passes`);
      return 0;
    }
    case "surprise":
      await runSurprise(options, backend);
      return 0;
    case "measure":
      await runMeasure(options, backend);
      return 0;
    case "robustness":
      await runRobustness(options, backend);
      return 0;
    case "pictures":
      await runSurprise(options, backend);
      await runRobustness(options, backend);
      await runMeasure(options, backend);
      return 0;
    case "train-drafter": {
      const { books, out, quick } = options;
      const size = { vocabSize: quick ? 320 : 1024, dModel: 96, nLayer: 2, batch: 4, length: 256, lr: 5e-3, seed: 1 };
      await trainDrafter(
        books,
        { out, steps: options.steps, ...size, ...(quick ? { limit: 200_000 } : {}) },
        backend,
        console.error,
      );
      return 0;
    }
    default:
      console.error(usage);
      return 2;
  }
}

process.exitCode = await main().catch((error: unknown) => {
  const isKnown = isMambaError(error) || error instanceof RangeError || (error instanceof Error && "code" in error);
  console.error(isKnown ? `error: ${(error as Error).message}` : error);
  return 1;
});
