// See README.md.
import { parseArgs } from "node:util";
import { isMambaError } from "@mamba-ts/backend";
import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { booksFolder } from "./books.js";
import { trainDrafter } from "./train-drafter.js";

async function main(): Promise<number> {
  const { values } = parseArgs({
    allowPositionals: true,
    options: { out: { type: "string", default: "/tmp/w/scratch/drafter" }, steps: { type: "string", default: "700" } },
  });
  await trainDrafter(
    booksFolder(),
    {
      out: values.out,
      steps: Number(values.steps),
      vocabSize: 1024,
      dModel: 96,
      nLayer: 2,
      batch: 4,
      length: 256,
      lr: 5e-3,
      seed: 1,
    },
    createCpuBackend(),
    (line) => console.error(line),
  );
  return 0;
}

process.exitCode = await main().catch((error: unknown) => {
  const isKnown = isMambaError(error) || (error instanceof Error && "code" in error);
  console.error(isKnown ? `error: ${(error as Error).message}` : error);
  return 1;
});
