// A change of a published package needs a changeset: `pnpm changeset` writes one.
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { run, runTool } from "./lib/run.mjs";
import { readJson, root } from "./lib/workspace.mjs";

const base = /** @type {{ baseBranch: string }} */ (readJson(".changeset/config.json")).baseBranch;

/** The branch that changes are compared with; undefined outside a clone. */
async function baseRevision() {
  for (const revision of [`origin/${base}`, base]) {
    if ((await run("git", ["rev-parse", "--verify", "--quiet", `${revision}^{commit}`])).code === 0) return revision;
  }
  return undefined;
}

const since = await baseRevision();
if (since === undefined) {
  console.log(`Skipped: there is no branch ${base} to compare with.`);
} else {
  const { code, output } = await runTool("@changesets/cli", ["status", `--since=${since}`], { bin: "changeset" });
  console.log(output.trim());
  process.exitCode = code;
}

// Nothing is published yet while the packages have version 0.0.0, so the first release needs its changeset all the while.
const { version } = /** @type {{ version: string }} */ (readJson("packages/backend/package.json"));
const waiting = readdirSync(join(root, ".changeset")).filter((file) => file.endsWith(".md") && file !== "README.md");
if (version === "0.0.0" && waiting.length === 0) {
  console.error("The first release has no changeset.");
  process.exitCode = 1;
}
