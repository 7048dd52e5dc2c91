/**
 * The conformance suite on a machine with a GPU and without vitest: `node conformance.mjs [part of a case's name]`. PART=fused, composed or
 * mutants runs one of its three parts alone.
 */
import {
  allCases,
  composedOnly,
  formatMatrix,
  runCase,
  supportMatrix,
  survivors,
} from "@mamba-ts/backend-testing/cases";
import { createBackend } from "../../src/index.js";

const [part = ""] = process.argv.slice(2);
const wanted = process.env["PART"];
const tolerance = { forward: 5e-5, gradient: 5e-4 };
const backend = await createBackend({ poison: true });
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
