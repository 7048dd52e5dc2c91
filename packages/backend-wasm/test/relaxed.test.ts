// The kernels with fused multiply-adds. Node 20 has relaxed SIMD behind a flag, which must be set before anything is compiled.
import { setFlagsFromString } from "node:v8";
import { allCases, runCase } from "@mamba-ts/backend-testing";
import { expect, test } from "vitest";
import { createBackend } from "../src/index.js";

setFlagsFromString("--experimental-wasm-relaxed-simd");
/** What is compiled anew for relaxed SIMD. */
const ops = ["matmul", "linear", "selectiveScan", "linearCrossEntropy", "mambaStep", "moe"];

for (const threads of [2])
  test(`the operations that use them conform, threads: ${threads}`, async ({ skip }) => {
    const backend = await createBackend({ threads, poison: true });
    if (!backend.device.includes("relaxed SIMD")) skip("this engine has no relaxed SIMD");
    const cases = allCases.filter(({ op }) => ops.includes(op));
    expect(cases.length).toBeGreaterThan(30);
    for (const each of cases) expect(await runCase(each, backend), each.name).toEqual([]);
    backend[Symbol.dispose]();
  });
