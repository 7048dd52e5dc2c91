import { existsSync } from "node:fs";
import { join } from "node:path";
import { cacheFolder, readJson } from "./workspace.mjs";

/** Where a run of the tests leaves its counts. */
export function totalsFile() {
  return join(cacheFolder, process.env["TEST_BUILT"] === "1" ? "tests-built.json" : "tests.json");
}

/** `N passed, N failed, N skipped` of the last run; a run that left no counts broke off, and has failed. */
export function totalsLine() {
  const { passed, failed, skipped } = existsSync(totalsFile())
    ? /** @type {import("../../vitest/report.mjs").TestTotals} */ (readJson(totalsFile()))
    : { passed: 0, failed: 1, skipped: 0 };
  return `${passed} passed, ${failed} failed, ${skipped} skipped`;
}
