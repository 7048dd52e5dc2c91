// Trains three models to recall planted facts and draws what they recall: see README.md.
import { execFileSync } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { isMambaError } from "@mamba-ts/backend";
import { createBackend } from "@mamba-ts/backend-wasm";
import { experiment, kinds, type Result, type Settings } from "./experiment.js";
import { heatMap } from "./picture.js";

const full: Settings = {
  dModel: 32,
  nLayer: 2,
  steps: 300,
  batch: 8,
  length: 16,
  facts: 2,
  lr: 5e-3,
  seed: 1,
  lengths: [12, 16, 32, 64, 128],
  depths: [0, 0.25, 0.5, 0.75, 1],
  needles: 16,
};
const quick: Settings = { ...full, dModel: 16, steps: 60, lengths: [12, 24, 48], depths: [0, 0.5, 1], needles: 12 };

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      out: { type: "string", default: fileURLToPath(new URL("../results", import.meta.url)) },
      steps: { type: "string" },
      quick: { type: "boolean", default: false },
    },
  });
  const settings = {
    ...(values.quick ? quick : full),
    ...(values.steps === undefined ? {} : { steps: Number(values.steps) }),
  };
  if (!(settings.steps >= 1)) throw new RangeError("--steps is at least 1");
  using backend = await createBackend();
  const results: Result[] = [];
  for (const kind of kinds) results.push(await experiment(kind, settings, backend, console.error));
  let commit = "unknown";
  try {
    commit = execFileSync("git", ["rev-parse", "HEAD"], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }).trim();
  } catch {}
  await mkdir(values.out, { recursive: true });
  await writeFile(
    join(values.out, "recall.json"),
    `${JSON.stringify({ commit, settings, device: backend.device, results }, null, 2)}\n`,
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
