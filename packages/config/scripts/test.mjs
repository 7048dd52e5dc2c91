// Runs every test that this machine can run, and ends with `N passed, N failed, N skipped`. Arguments go to vitest.
// With TEST_BUILT=1 the tests meet the built packages.
import { rmSync } from "node:fs";
import { join } from "node:path";
import { runTool } from "./lib/run.mjs";
import { totalsFile, totalsLine } from "./lib/totals.mjs";

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
