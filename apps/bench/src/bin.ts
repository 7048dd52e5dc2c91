import { parseArgs } from "node:util";
import { isMambaError } from "@mamba-ts/backend";
import { decodeBench } from "./benches/decode.js";
import { deviceBench } from "./benches/device.js";
import { jambaPrefillBench } from "./benches/jamba-prefill.js";
import { matmulBench } from "./benches/matmul.js";
import { s4CostBench, s4CostChild } from "./benches/s4-cost.js";
import { s4TrainBench } from "./benches/s4-train.js";
import { scanBench } from "./benches/scan.js";
import { scanMemoryBench, scanMemoryChild } from "./benches/scan-memory.js";
import { trainBench } from "./benches/train.js";
import { wasmBench } from "./benches/wasm.js";
import { wasmModelBench } from "./benches/wasm-model.js";
import { wasmTrainBench } from "./benches/wasm-train.js";
import { type Context, deviceOf, openBackend } from "./context.js";
import { formatRow } from "./report.js";

const benches: { readonly [name: string]: (context: Context) => Promise<void> } = {
  matmul: matmulBench,
  scan: scanBench,
  decode: decodeBench,
  train: trainBench,
  wasm: wasmBench,
  "wasm-train": wasmTrainBench,
  "wasm-model": wasmModelBench,
  "scan-memory": scanMemoryBench,
  "s4-cost": s4CostBench,
  "s4-train": s4TrainBench,
  device: deviceBench,
  "jamba-prefill": jambaPrefillBench,
};

/** Those that take minutes on a processor are run when they are named. */
const onRequest = new Set(["device", "wasm-model", "jamba-prefill"]);

const usage = `usage: node dist/bin.js [BENCH...] [--backend NAME-OR-PATH] [--runs N] [--warmup N] [--json] [--picture FILE]

Benchmarks: ${Object.keys(benches).join(", ")}; all but ${[...onRequest].join(", ")} by default.
  --backend   cpu, wasm, webgpu, cuda, a package, or a path to a module that exports createBackend(); cpu by default
  --runs      timed runs of each subject, at least 3; 20 by default
  --warmup    runs before those; 3 by default
  --json      one JSON document per line
  --picture   a file for the plot of s4-cost, as SVG
  --help

docs/benchmarks.md says what the rows mean.`;

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      backend: { type: "string", default: "cpu" },
      runs: { type: "string", default: "20" },
      warmup: { type: "string", default: "3" },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
      mode: { type: "string" },
      picture: { type: "string" },
    },
  });
  if (values.help) {
    console.log(usage);
    return 0;
  }
  if (positionals[0] === "scan-memory-child") {
    await scanMemoryChild(values.mode, values.backend);
    return 0;
  }
  if (positionals[0] === "s4-cost-child") {
    await s4CostChild(values.mode, values.backend);
    return 0;
  }
  const repeats = { runs: Number(values.runs), warmup: Number(values.warmup) };
  const unknown = positionals.find((name) => !Object.hasOwn(benches, name));
  const isWhole = Number.isInteger(repeats.runs) && Number.isInteger(repeats.warmup);
  if (unknown !== undefined || !isWhole || repeats.runs < 3 || repeats.warmup < 0) {
    console.error(unknown === undefined ? usage : `no benchmark is called ${unknown}\n\n${usage}`);
    return 2;
  }
  using backend = await openBackend(values.backend);
  const device = deviceOf(backend);
  const emit: Context["emit"] = (text, data) => console.log(values.json ? JSON.stringify(data) : `${text}\n`);
  if (!values.json) console.log(`${device}\n`);
  const row: Context["row"] = (r) => emit(formatRow(r), r);
  const context: Context = {
    backend,
    backendName: values.backend,
    device,
    repeats,
    emit,
    row,
    picture: values.picture,
  };
  for (const name of positionals.length > 0 ? positionals : Object.keys(benches).filter((b) => !onRequest.has(b)))
    await benches[name]!(context);
  // A benchmark that measures against a limit says so through the exit code.
  return Number(process.exitCode ?? 0);
}

process.exitCode = await main().catch((error: unknown) => {
  const isUsage =
    isMambaError(error, "invalid-argument") || (error as { code?: string }).code?.startsWith("ERR_PARSE_ARGS");
  console.error(isUsage || isMambaError(error) ? `error: ${(error as Error).message}` : error);
  return isUsage ? 2 : 1;
});
