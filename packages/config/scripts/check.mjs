// All checks of the repository, the tests included; ends with the tests' `N passed, N failed, N skipped`.
//   pnpm check                   all of them
//   pnpm check --only lint,types
//   pnpm check --except tests    after `pnpm test`
import { join } from "node:path";
import { run, runTool } from "./lib/run.mjs";
import { totalsLine } from "./lib/totals.mjs";

/** @param {string} name of a script in this folder @param {NodeJS.ProcessEnv} [env] */
const script = (name, env = {}) => run(process.execPath, [join(import.meta.dirname, name)], { env });
/** The tests show their progress. @param {NodeJS.ProcessEnv} [env] */
const tests = (env = {}) => run(process.execPath, [join(import.meta.dirname, "test.mjs")], { env, output: "inherit" });

/**
 * @typedef {object} Step
 * @property {string} what
 * @property {() => Promise<{ code: number, output: string }>} run
 * @property {boolean} [built] whether it looks at what is built
 */

/** @type {{ [name: string]: Step }} */
const steps = {
  lint: {
    what: "format and lint",
    run: () => runTool("@biomejs/biome", ["ci", ".", "--error-on-warnings", "--colors=off"], { bin: "biome" }),
  },
  kernels: { what: "kernels compiled", run: () => runTool("turbo", ["run", "build:kernels"]) },
  types: {
    what: "types of sources, tests, apps and scripts",
    run: async () => {
      const generated = await runTool("turbo", ["run", "generate", "--output-logs=errors-only"]);
      return generated.code === 0 ? runTool("typescript", ["--noEmit"], { bin: "tsc" }) : generated;
    },
  },
  imports: { what: "import rules and cycles", run: () => script("imports.mjs") },
  lockfile: { what: "no registry host in the lockfile", run: () => script("lockfile.mjs") },
  changesets: { what: "every change has its changeset", run: () => script("changesets.mjs") },
  build: { what: "build", run: () => script("build.mjs") },
  tests: { what: "tests on the sources", run: () => tests() },
  "tests-built": { what: "tests on the built packages", built: true, run: () => tests({ TEST_BUILT: "1" }) },
  demo: { what: "the demo", built: true, run: () => run(process.execPath, ["apps/cli/dist/bin.js", "demo"]) },
  budgets: { what: "bundle sizes, and nothing of Node in them", built: true, run: () => script("budgets.mjs") },
  packages: {
    what: "publint and are-the-types-wrong on every package",
    built: true,
    run: () => script("packages.mjs"),
  },
  "as-users": {
    what: "packages in empty projects, with the READMEs' snippets",
    built: true,
    run: () => script("as-users.mjs"),
  },
};

const chosen = chooseSteps(process.argv.slice(2));
/** @type {string[]} */
const failed = [];
for (const [name, step] of chosen) {
  if (step.built && failed.includes("build")) {
    console.log(`--  ${name}: not run, the build failed`);
    continue;
  }
  const start = performance.now();
  const { code, output } = await step.run();
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  if (code !== 0) {
    failed.push(name);
    if (output.trim() !== "") console.log(output.trim());
  }
  console.log(`${code === 0 ? "ok" : "FAILED"}  ${name}: ${step.what} (${seconds} s)`);
}
console.log(failed.length === 0 ? "All checks passed." : `Failed: ${failed.join(", ")}.`);
if (chosen.some(([name]) => name === "tests")) console.log(totalsLine());
process.exitCode = failed.length === 0 ? 0 : 1;

/** @param {string[]} args @returns {[string, Step][]} */
function chooseSteps(args) {
  const [mode, list, ...rest] = args;
  const all = Object.entries(steps);
  if (mode === undefined) return all;
  const names = (list ?? "").split(",");
  const unknown = names.filter((name) => steps[name] === undefined);
  if (!["--only", "--except"].includes(mode) || rest.length > 0 || unknown.length > 0) {
    console.error(`check [--only NAMES | --except NAMES], where NAMES is some of ${Object.keys(steps).join(",")}`);
    process.exit(2);
  }
  return all.filter(([name]) => names.includes(name) === (mode === "--only"));
}
