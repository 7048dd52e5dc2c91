// Runs every step of the walk and writes the page: see README.md.
import { writeFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { isMambaError } from "@mamba-ts/backend";
import { page } from "./page.js";
import { continuousStep } from "./steps/continuous.js";
import { discretizationStep } from "./steps/discretization.js";
import { memoryStep } from "./steps/memory.js";
import { selectionStep } from "./steps/selection.js";
import { threeFormsStep } from "./steps/three-forms.js";

const usage = `usage: node dist/bin.js [--out FILE] [--picture FILE] [--quick]

  --out FILE      the page; walkthrough.html by default
  --picture FILE  also the figure of the README, by itself
  --quick         smaller states in the step on memory
  --help`;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      out: { type: "string", default: "walkthrough.html" },
      picture: { type: "string" },
      quick: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(usage);
    return 0;
  }
  const memory = memoryStep(values.quick);
  const steps = [continuousStep(), discretizationStep(), threeFormsStep(), memory, selectionStep()];
  for (const { title, table } of steps) {
    console.log(title);
    for (const row of table ?? []) console.log(`  ${row.join(": ")}`);
  }
  await writeFile(values.out, page(steps));
  if (values.picture !== undefined) await writeFile(values.picture, memory.picture);
  console.log(`${values.out}: ${steps.reduce((n, s) => n + s.figures.length, 0)} figures`);
  return 0;
}

process.exitCode = await main().catch((error: unknown) => {
  const isUsage = (error as { code?: string }).code?.startsWith("ERR_PARSE_ARGS");
  console.error(isUsage || isMambaError(error) ? `error: ${(error as Error).message}` : error);
  return isUsage ? 2 : 1;
});
