// The import rules, on sources and tests; and that every package declares what it imports, within the table of layers.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import ts from "typescript";
import { runTool } from "./lib/run.mjs";
import { layers, root, workspacePackages } from "./lib/workspace.mjs";

const packages = workspacePackages().filter(({ folder }) => folder !== "packages/config");

const cruise = await runTool(
  "dependency-cruiser",
  [
    "--config",
    "packages/config/dependency-cruiser.mjs",
    "--output-type",
    "err",
    ...packages.flatMap(({ folder }) => parts(folder)),
  ],
  { bin: "depcruise" },
);
if (cruise.code !== 0) console.error(cruise.output);

const table = layers();
/** @type {string[]} */
const faults = [];
for (const { folder, name, manifest } of packages) {
  if (folder.startsWith("packages/") && table[folder.slice("packages/".length)] === undefined) {
    faults.push(`${name}: not in packages/config/data/layers.json`);
  }
  const declared = { ...manifest.dependencies, ...manifest.peerDependencies, ...manifest.optionalDependencies };
  for (const { file, imported } of imports(folder)) {
    if (imported === name || imported in declared) continue;
    faults.push(`${file}: imports ${imported}, which ${folder}/package.json does not declare`);
  }
}
for (const fault of faults) console.error(fault);
process.exitCode = cruise.code !== 0 || faults.length > 0 ? 1 : 0;

/** The folders with a package's own code. @param {string} folder */
function parts(folder) {
  return [`${folder}/src`, `${folder}/test`].filter((part) => existsSync(join(root, part)));
}

/**
 * The packages that a package's sources import by name. Tests are not asked: the root's development dependencies serve
 * them, and vitest leads them to every package of the workspace.
 * @param {string} folder
 */
function imports(folder) {
  return readdirSync(join(root, folder, "src"), { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".ts") && !/\.(test|bench)\.ts$/.test(file))
    .map((file) => `${folder}/src/${file}`)
    .flatMap((file) =>
      ts
        .preProcessFile(readFileSync(join(root, file), "utf8"), true, true)
        .importedFiles.map(({ fileName }) => fileName)
        .filter((specifier) => !/^(\.|node:)/.test(specifier))
        .map((specifier) =>
          specifier
            .split("/")
            .slice(0, specifier.startsWith("@") ? 2 : 1)
            .join("/"),
        )
        .map((imported) => ({ file, imported })),
    );
}
