// Looks at every package as it would be published: publint, are-the-types-wrong, what is in the tarball and what is not.
// The packages must be built.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { packAll } from "./lib/pack.mjs";
import { runTool } from "./lib/run.mjs";
import { entryPoints, platformPackages, root } from "./lib/workspace.mjs";

/** Scripts that run on a user's machine when the package is installed. */
const installScripts = ["preinstall", "install", "postinstall", "preprepare", "prepare", "postprepare"];

const forPlatform = new Set(platformPackages().map(({ name }) => name));

/** @type {string[]} */
const faults = [];
for (const { pkg, file, contents } of await packAll()) {
  const { name, manifest, folder } = pkg;
  /** @param {string} fault */
  const report = (fault) => faults.push(`${name}: ${fault}`);

  for (const wanted of ["README.md", "LICENSE", "package.json"]) {
    if (!contents.includes(wanted)) report(`no ${wanted} in the package`);
  }
  for (const unwanted of contents.filter((path) => /\.test\.|(^|\/)test\/|(^|\/)tsconfig|\.tsbuildinfo$/.test(path))) {
    report(`${unwanted} does not belong in the package`);
  }
  for (const script of installScripts) {
    if (manifest.scripts?.[script] !== undefined) report(`has the install script ${script}`);
  }
  // A package of another platform is filled for the release only, which checks that it is: `check:native`.
  if (forPlatform.has(name) && !contents.some((path) => path.endsWith(".node"))) continue;
  for (const [path, target] of targets(manifest.exports ?? {})) {
    if (!existsSync(join(root, folder, target))) report(`exports ${path}: ${target} is not there`);
  }

  const lint = await runTool("publint", ["run", file, "--strict", "--pack", "false"]);
  if (lint.code !== 0) report(lint.output.trim());
  if (entryPoints(pkg).length > 0) {
    const types = await runTool("@arethetypeswrong/cli", [file, "--profile", "esm-only", "--no-emoji", "--no-color"], {
      bin: "attw",
    });
    if (types.code !== 0) report(types.output.trim());
  }
}

for (const fault of faults) console.error(fault);
process.exitCode = faults.length > 0 ? 1 : 0;

/**
 * Every file that `exports` names, with the path of conditions that leads there.
 * @param {import("./lib/workspace.mjs").ExportTarget} target
 * @param {string} path
 * @returns {[string, string][]}
 */
function targets(target, path = "") {
  if (typeof target === "string") return [[path, target]];
  return Object.entries(target).flatMap(([key, inner]) => targets(inner, `${path} ${key}`.trim()));
}
