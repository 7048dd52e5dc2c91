import { mkdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

/**
 * @typedef {object} TestTotals
 * @property {number} passed
 * @property {number} failed
 * @property {number} skipped
 * @property {{ [reason: string]: string[] }} skips the skipped tests' names by the reason that each gave
 */

/**
 * A vitest reporter: counts, and says what was skipped and why. A test gives its reason with `context.skip("no adapter")`.
 * The counts also go to the file that TEST_TOTALS names.
 * @implements {Partial<import("vitest/reporters").Reporter>}
 */
export default class Report {
  /**
   * @param {ReadonlyArray<import("vitest/node").TestModule>} modules
   * @param {ReadonlyArray<unknown>} unhandledErrors
   */
  onTestRunEnd(modules, unhandledErrors) {
    const totals = /** @type {TestTotals} */ ({ passed: 0, failed: unhandledErrors.length, skipped: 0, skips: {} });
    for (const module of modules) {
      // A file that cannot be loaded has no tests to fail.
      if (module.errors().length > 0) totals.failed++;
      for (const test of module.children.allTests()) {
        const result = test.result();
        if (result.state === "pending") totals.failed++;
        else totals[result.state]++;
        if (result.state !== "skipped") continue;
        const reason = result.note ?? "no reason given";
        totals.skips[reason] ??= [];
        totals.skips[reason].push(`${module.relativeModuleId} > ${test.fullName}`);
      }
    }
    printSkips(totals);
    const file = process.env["TEST_TOTALS"];
    if (file === undefined) return;
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, JSON.stringify(totals));
  }
}

/** @param {TestTotals} totals */
function printSkips({ skipped, skips }) {
  if (skipped === 0) return;
  console.log(`Skipped ${skipped} tests:`);
  for (const [reason, names] of Object.entries(skips)) {
    console.log(`  ${reason}`);
    for (const name of names.slice(0, 10)) console.log(`    ${name}`);
    if (names.length > 10) console.log(`    and ${names.length - 10} more`);
  }
}
