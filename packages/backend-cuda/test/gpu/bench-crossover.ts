/**
 * From which length on the selective scan is faster than causal attention of the same width: `node bench-crossover.mjs sdpa.jsonl`, the file by
 * sdpa.py on the same machine just before. The scan: bf16, batch 1, dState 16, with z, D, delta bias and softplus, at dInner = the width and twice it.
 */
import { readFileSync } from "node:fs";
import type { Tensor } from "@mamba-ts/tensor";
import { cast, fromHost, Rng, scope, selectiveScan } from "@mamba-ts/tensor";
import { createBackend } from "../../src/index.js";

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
const { native } = backend.cuda;

async function medianMs(run: () => void, runs = 20): Promise<number> {
  for (let i = 0; i < 3; i++) run();
  const marks: [number, number][] = [];
  for (let i = 0; i < runs; i++) {
    const start = native.record();
    run();
    marks.push([start, native.record()]);
  }
  await backend.synchronize();
  const times = marks.map(([a, b]) => native.elapsed(a, b)).sort((a, b) => a - b);
  return (times[(runs - 1) >> 1]! + times[runs >> 1]!) / 2;
}

function random(shape: number[], dtype: "bf16" | "float32", f: (u: number) => number = (u) => u): Tensor {
  // A quarter of a million numbers, repeated: drawing them on the host is slow.
  const size = shape.reduce((a, b) => a * b, 1);
  const some = Float32Array.from(new Rng(size % 1000).normal(Math.min(size, 2 ** 18)), f);
  const all = new Float32Array(size);
  for (let i = 0; i < size; i += some.length) all.set(some.subarray(0, Math.min(some.length, size - i)), i);
  return scope(() => cast(fromHost(backend, all, shape, "float32"), dtype));
}

async function scanMs(length: number, dInner: number): Promise<number> {
  const tensors = {
    x: random([1, length, dInner], "bf16"),
    delta: random([1, length, dInner], "bf16", (u) => 0.5 * u - 3),
    A: random([dInner, 16], "float32", (u) => -0.5 - Math.abs(u)),
    B: random([1, length, 16], "bf16"),
    C: random([1, length, 16], "bf16"),
    D: random([dInner], "float32"),
    z: random([1, length, dInner], "bf16"),
    deltaBias: random([dInner], "float32"),
  };
  const ms = await medianMs(() => scope(() => void selectiveScan({ ...tensors, softplus: true })));
  for (const t of Object.values(tensors)) t.dispose();
  return ms;
}

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
