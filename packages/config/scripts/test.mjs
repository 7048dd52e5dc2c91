// Runs every test that this machine can run, and ends with `N passed, N failed, N skipped`. Arguments go to vitest.
// With TEST_BUILT=1 the tests meet the built packages.
import { rmSync } from "node:fs";
import { join } from "node:path";
import { testsOnBuilt } from "../vitest/built.mjs";
import { runTool } from "./lib/run.mjs";
import { totalsFile, totalsLine } from "./lib/totals.mjs";

if (process.env["TEST_BUILT"] === "1") {
  for (const test of (await testsOnBuilt()).internal)
    console.log(`On the sources only, as it tests a part of a package: ${test}`);
}

rmSync(totalsFile(), { force: true });
const report = join(import.meta.dirname, "../vitest/report.mjs");
const { code } = await runTool(
  "vitest",
  ["run", "--reporter=default", `--reporter=${report}`, ...process.argv.slice(2)],
  {
    output: "inherit",
    env: { TEST_TOTALS: totalsFile() },
  },
);
console.log(totalsLine());
process.exitCode = code;
