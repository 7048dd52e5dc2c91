/**
 * The conformance suite on a machine with a GPU and without vitest: `node conformance.mjs [part of a case's name]`. PART=fused, composed,
 * mutants or builds runs one of its parts alone.
 */
import {
  allCases,
  checkCapture,
  composedOnly,
  formatMatrix,
  runCase,
  supportMatrix,
  survivors,
} from "@mamba-ts/backend-testing/cases";
import { createBackend } from "../../src/index.js";
import { buildCases, valuesOf } from "../build-cases.js";
import { relativeError } from "../support.js";

const [part = ""] = process.argv.slice(2);
const wanted = process.env["PART"];
const tolerance = { forward: 5e-5, gradient: 5e-4 };
// F16=1: with shader-f16 where Dawn hides it. DAWN: more toggles.
const enable = [
  ...(process.env["F16"] ? ["vulkan_enable_f16_on_nvidia"] : []),
  ...(process.env["DAWN"]?.split(",") ?? []),
];
const dawn = { enable };
const backend = await createBackend({ poison: true, dawn });
console.log(backend.device);
let [passed, failed] = [0, 0];
for (const how of ["fused", "composed"] as const)
  for (const opCase of allCases) {
    if (wanted !== undefined && wanted !== how) continue;
    if (opCase.dtypes?.includes("float32") === false || !`${opCase.op} ${opCase.name}`.includes(part)) continue;
    const subject = how === "fused" ? backend : composedOnly(backend);
    const failures = await runCase(opCase, subject, { dtype: "float32", tolerance });
    if (failures.length === 0) passed++;
    else failed++;
    for (const { what, message } of failures) console.log(`FAILED ${how} ${opCase.name}: ${what} ${message}`);
  }
if ("capture".includes(part) && (wanted === undefined || wanted === "fused")) {
  const failures = await checkCapture(backend);
  if (failures.length === 0) passed++;
  else failed++;
  for (const message of failures) console.log(`FAILED capture: ${message}`);
}
if (wanted === undefined || wanted === "builds") {
  // Every build of a kernel that this adapter has, against the plain one.
  const plain = await createBackend({ poison: true, subgroups: false, f16: false });
  for (const buildCase of buildCases) {
    const [got, want] = [await valuesOf(buildCase, backend), await valuesOf(buildCase, plain)];
    for (const [i, [name, data]] of got.entries()) {
      const error = relativeError(data, want[i]![1]);
      if (error < 2e-6) passed++;
      else failed++;
      if (!(error < 2e-6)) console.log(`FAILED builds ${buildCase.name}: ${name} ${error}`);
    }
  }
  plain[Symbol.dispose]();
}
const { liveBuffers } = backend.memory();
if (part === "" && (wanted === undefined || wanted === "mutants")) {
  const { survivors: alive, tried } = await survivors(backend, allCases);
  console.log(`${tried} mutants, ${alive.length} survive: ${alive.map((m) => JSON.stringify(m)).join(" ")}`);
  failed += alive.length;
  console.log(formatMatrix(supportMatrix(backend, allCases)));
}
console.log(`${passed} passed, ${failed} failed, ${liveBuffers} buffers live`);
backend[Symbol.dispose]();
process.exitCode = failed + liveBuffers > 0 ? 1 : 0;
