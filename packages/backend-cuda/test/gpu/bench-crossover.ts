/**
 * From which length on the selective scan is faster than causal attention of the same width: `node bench-crossover.mjs sdpa.jsonl`, the file by
 * sdpa.py on the same machine just before. The scan: bf16, batch 1, dState 16, with z, D, delta bias and softplus, at dInner = the width and twice it.
 */
import { readFileSync } from "node:fs";
import { scope, selectiveScan } from "@mamba-ts/tensor";
import { createBackend } from "../../src/index.js";
import { medianMs, scanInputs } from "./support/scan-inputs.js";

interface Row {
  readonly length: number;
  readonly width: number;
  readonly flash?: number;
  readonly cudnn?: number;
}
const file = process.argv[2];
if (file === undefined) throw new Error("usage: bench-crossover.mjs sdpa.jsonl");
const rows = readFileSync(file, "utf8").trim().split("\n");
const nativeFolder = process.env["MAMBA_TS_CUDA_NATIVE"];
const backend = await createBackend(nativeFolder === undefined ? {} : { nativeFolder });
async function scanMs(length: number, dInner: number, runs = 20): Promise<number> {
  const tensors = scanInputs(backend, "bf16", 1, length, dInner);
  const ms = await medianMs(backend, () => scope(() => void selectiveScan({ ...tensors, softplus: true })), runs);
  for (const t of Object.values(tensors)) t.dispose();
  return ms;
}

// The host compiles what it runs often: not on the clock of the shortest lengths.
for (const length of [512, 1024]) await scanMs(length, 1024, 500);
console.log(`${backend.device}; ${JSON.stringify(JSON.parse(rows[0]!))}`);
console.log("length  attention ms (best of)  scan, dInner = width (ratio)  scan, dInner = 2 width (ratio)");
for (const line of rows) {
  const row = JSON.parse(line) as Row;
  const attention = Math.min(row.flash ?? Number.POSITIVE_INFINITY, row.cudnn ?? Number.POSITIVE_INFINITY);
  const [one, two] = [await scanMs(row.length, row.width), await scanMs(row.length, 2 * row.width)];
  const ratio = (ms: number): string => `${ms.toFixed(4)} (${(attention / ms).toFixed(2)}x)`;
  console.log(`${row.length}  ${attention.toFixed(4)}  ${ratio(one)}  ${ratio(two)}`);
}
backend[Symbol.dispose]();
