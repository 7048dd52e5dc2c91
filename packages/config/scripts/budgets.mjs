// Bundles every entry point for browsers, with esbuild and with Vite: nothing may stay external, no Node built-in may be
// reachable, and the gzipped size must be within its budget in data/budgets.json. The packages must be built.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { bundleWithEsbuild, bundleWithVite, gzipped } from "./lib/bundle.mjs";
import { entryPoints, layers, publicPackages, readJson, root } from "./lib/workspace.mjs";

/**
 * @typedef {{ bytes: number, not?: { [bundler: string]: string }, oneOf?: string[] }} Budget `not` names bundlers that a dependency is not
 * made for, and why; of the files in `oneOf`, loaded on demand, only one ever is: the largest counts
 * @typedef {{ [entry: string]: number | Budget }} Budgets entry points joined by " + ", and bytes gzipped
 */
const budgets = /** @type {Budgets} */ (readJson("packages/config/data/budgets.json"));
const table = layers();
/** @type {string[]} */
const faults = [];

for (const [title, given] of Object.entries(budgets)) {
  const { bytes: budget, not = {}, oneOf = [] } = typeof given === "number" ? { bytes: given } : given;
  const each = oneOf.map((file) => gzipped(readFileSync(join(root, file), "utf8")));
  const unused = each.reduce((sum, size) => sum + size, 0) - Math.max(0, ...each);
  const entries = title.split(" + ");
  const sizes = { esbuild: 0, Vite: 0 };
  for (const [bundler, bundle] of /** @type {const} */ ([
    ["esbuild", bundleWithEsbuild],
    ["Vite", bundleWithVite],
  ])) {
    if (bundler in not) continue;
    try {
      const { gzipped: all, external } = await bundle(entries);
      const size = all - unused;
      sizes[bundler] = size;
      if (external.length > 0) faults.push(`${title}: with ${bundler}, not in the bundle: ${external.join(", ")}`);
      if (size > budget) faults.push(`${title}: ${size} bytes with ${bundler}, budget ${budget}`);
    } catch (error) {
      faults.push(`${title}: ${bundler} fails: ${error instanceof Error ? error.message : error}`);
    }
  }
  const bytes = (/** @type {number} */ n) => String(n).padStart(7);
  console.log(`${bytes(sizes.esbuild)} esbuild ${bytes(sizes.Vite)} Vite, of ${bytes(budget)}  ${title}`);
}

for (const pkg of publicPackages()) {
  if (table[pkg.folder.slice("packages/".length)]?.runs !== undefined) continue;
  for (const { name, browserTwin } of entryPoints(pkg)) {
    // `/node` is for Node, unless it gives browsers something of their own.
    if (name in budgets || (name.endsWith("/node") && !browserTwin)) continue;
    faults.push(`${name}: no budget in packages/config/data/budgets.json`);
  }
}

for (const fault of faults) console.error(fault);
process.exitCode = faults.length > 0 ? 1 : 0;
