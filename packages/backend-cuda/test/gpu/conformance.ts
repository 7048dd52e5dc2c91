/**
 * The conformance suite on a machine with a GPU and without vitest: `node conformance.mjs [part of a case's name] [fused|composed] [float32|float64] [2/8]`; the
 * last is a share of the cases, for tools that make them slow: here the second eighth.
 */
import {
  allCases,
  checkCapture,
  composedOnly,
  formatMatrix,
  runCase,
  supportMatrix,
  survivors,
  tolerances,
} from "@mamba-ts/backend-testing/cases";
import { createBackend } from "../../src/index.js";

const [part = "", ...only] = process.argv.slice(2);
const nativeFolder = process.env["MAMBA_TS_CUDA_NATIVE"];
const backend = await createBackend({ poison: true, ...(nativeFolder === undefined ? {} : { nativeFolder }) });
console.log(backend.device);
let [passed, failed] = [0, 0];
const wanted = (what: string, all: readonly string[]): boolean =>
  only.includes(what) || !all.some((x) => only.includes(x));
const [share, shares] = (only.find((x) => x.includes("/")) ?? "1/1").split("/").map(Number) as [number, number];
for (const how of ["fused", "composed"] as const)
  for (const dtype of ["float32", "float64"] as const)
    for (const [i, opCase] of allCases.entries()) {
      if (i % shares !== share - 1) continue;
      if (!wanted(how, ["fused", "composed"]) || !wanted(dtype, ["float32", "float64"])) continue;
      if (opCase.dtypes?.includes(dtype) === false || !`${opCase.op} ${opCase.name}`.includes(part)) continue;
      const subject = how === "fused" ? backend : composedOnly(backend);
      const failures = await runCase(opCase, subject, { dtype, tolerance: tolerances[dtype] });
      if (failures.length === 0) passed++;
      else failed++;
      for (const { what, message } of failures)
        console.log(`FAILED ${how} ${dtype} ${opCase.name}: ${what} ${message}`);
    }
if ("capture".includes(part) && share === 1) {
  const failures = await checkCapture(backend);
  if (failures.length === 0) passed++;
  else failed++;
  for (const message of failures) console.log(`FAILED capture: ${message}`);
}
if (part === "" && only.length === 0) {
  const { survivors: alive, tried } = await survivors(backend, allCases);
  console.log(`${tried} mutants, ${alive.length} survive: ${alive.map((m) => JSON.stringify(m)).join(" ")}`);
  failed += alive.length;
  console.log(formatMatrix(supportMatrix(backend, allCases)));
}
const { liveBuffers } = backend.memory();
console.log(`${passed} passed, ${failed} failed, ${liveBuffers} buffers live`);
backend[Symbol.dispose]();
process.exitCode = failed + liveBuffers > 0 ? 1 : 0;
