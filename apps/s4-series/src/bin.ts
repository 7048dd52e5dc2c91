// Forecasts real series: see README.md.
import { access, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { isMambaError } from "@mamba-ts/backend";
import { createBackend } from "@mamba-ts/backend-wasm";
import { co2, earthquakes, etth1 } from "./data.js";
import { forecastEvents } from "./irregular.js";
import type { Recipe } from "./model.js";
import { forecastSeries } from "./regular.js";
import { type Report, reportText } from "./report.js";

const usage = `usage: node dist/bin.js [SERIES...] [--ett FILE] [--out DIR] [--steps N] [--quick]

Series: co2, earthquakes, ett; those there is data for by default.
  --ett FILE    ETTh1.csv of the ETDataset (https://github.com/zhouhaoyi/ETDataset), hourly
  --out DIR     where the pictures go, SERIES.svg; none by default
  --steps N     updates of a model; 150 by default
  --quick       60 updates of one smaller model instead of 150 of three, under two minutes
  --help`;

const names = ["co2", "earthquakes", "ett"] as const;
type Name = (typeof names)[number];

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      ett: { type: "string" },
      out: { type: "string" },
      steps: { type: "string" },
      quick: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(usage);
    return 0;
  }
  const { ett, out, quick } = values;
  const steps = Number(values.steps ?? (quick ? 60 : 150));
  const unknown = positionals.find((name) => !names.includes(name as Name));
  const wrong =
    unknown !== undefined
      ? `no series is called ${unknown}`
      : positionals.includes("ett") && ett === undefined
        ? "ett needs --ett FILE"
        : !Number.isInteger(steps) || steps < 1
          ? `--steps ${values.steps} is no count`
          : undefined;
  if (wrong !== undefined) {
    console.error(`${wrong}\n\n${usage}`);
    return 2;
  }
  if (ett !== undefined) await access(ett);
  const available = names.filter((name) => name !== "ett" || ett !== undefined);
  using backend = await createBackend();
  const onStep = (step: number, loss: number): void => {
    if (step % Math.ceil(steps / 10) === 0) console.error(`  step ${step} of ${steps}, loss ${loss.toFixed(4)}`);
  };
  for (const name of positionals.length > 0 ? (positionals as Name[]) : available) {
    const start = performance.now();
    const report = await run(name, ett ?? "", {
      backend,
      dModel: 16,
      dState: quick ? 16 : 32,
      batch: 32,
      steps,
      rate: 0.004,
      models: quick ? 1 : 3,
      onStep,
    });
    console.log(`\n${reportText(report, (performance.now() - start) / 1000)}`);
    if (out === undefined) continue;
    await mkdir(out, { recursive: true });
    await writeFile(join(out, `${name}.svg`), report.figure);
  }
  return 0;
}

async function run(name: Name, ett: string, recipe: Recipe): Promise<Report> {
  if (name === "earthquakes") return forecastEvents(await earthquakes(), recipe);
  // The customary split of ETTh1 is 12 months, 4 and 4.
  const split = { trainEnd: 0.6, testStart: 0.8 };
  return name === "co2"
    ? forecastSeries(await co2(), { context: 48, horizon: 12, season: 12, ...split }, recipe)
    : forecastSeries(await etth1(ett), { context: 168, horizon: 24, season: 24, ...split }, recipe);
}

process.exitCode = await main().catch((error: unknown) => {
  const isUsage = (error as { code?: string }).code?.startsWith("ERR_PARSE_ARGS");
  const isKnown = isUsage || isMambaError(error) || (error instanceof Error && "code" in error);
  console.error(isKnown ? `error: ${(error as Error).message}` : error);
  return isUsage ? 2 : 1;
});
