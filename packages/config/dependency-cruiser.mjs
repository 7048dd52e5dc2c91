// Who may import whom: data/layers.json, turned into rules. Imports by package name are followed to the sources.
import { entryPoints, layers, workspacePackages } from "./scripts/lib/workspace.mjs";

const table = layers();

/** What a package may import: its row, and what the packages of its row may. @param {string} name @returns {string[]} */
function reachable(name) {
  const row = table[name]?.packages ?? [];
  return [...new Set(row.flatMap((below) => [below, ...reachable(below)]))];
}

/** @param {string} text */
const escapeText = (text) => text.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&");
/** @param {string[]} names */
const anyOf = (names) => (names.length > 0 ? `(${names.map(escapeText).join("|")})` : "(?!)");

const testFile = "\\.(test|bench)\\.ts$|^(packages|apps)/[^/]+/test/";
const nodePart = "^packages/[^/]+/src/node(/|\\.ts$)";
const inTests = Object.keys(table).filter((name) => table[name]?.runs === "in tests");
const inNode = Object.keys(table).filter((name) => table[name]?.runs === "in Node");
const notPortable = `${testFile}|${nodePart}|^packages/${anyOf(["config", ...inTests, ...inNode])}/`;
const packages = workspacePackages().filter(({ folder }) => folder !== "packages/config");

/** Entry points that give browsers a module of their own may be imported from portable code. */
const twins = packages
  .flatMap(entryPoints)
  .filter(({ browserTwin }) => browserTwin)
  .map(({ source }) => source);

/** @type {import("dependency-cruiser").IForbiddenRuleType[]} */
const layering = packages
  .filter(({ folder }) => folder.startsWith("packages/"))
  .flatMap(({ folder }) => {
    const name = folder.slice("packages/".length);
    const from = { path: `^${escapeText(folder)}/src/`, pathNot: testFile };
    return [
      {
        name: `layers-${name}`,
        comment: "packages/config/data/layers.json says what each package may import.",
        severity: "error",
        from,
        to: { path: "^(packages|apps)/", pathNot: `^packages/${anyOf([name, ...reachable(name)])}/` },
      },
      {
        name: `npm-${name}`,
        comment: "Third-party packages are named in packages/config/data/layers.json.",
        severity: "error",
        from,
        to: {
          path: "node_modules/",
          pathNot: `node_modules/${anyOf(table[name]?.npm ?? [])}/|node_modules/@mamba-ts/`,
        },
      },
    ];
  });

/** @type {import("dependency-cruiser").IForbiddenRuleType[]} */
const general = [
  {
    name: "no-cycles",
    comment: "The gradient of an op is made of ops, so the ops of `tensor`, and they alone, know each other.",
    severity: "error",
    from: { pathNot: "^packages/tensor/src/ops/" },
    to: { circular: true, viaOnly: { dependencyTypesNot: ["type-only"] } },
  },
  {
    name: "no-unresolvable",
    comment: "A module that is not there, or one inside another package: import its entry points.",
    severity: "error",
    from: {},
    to: { couldNotResolve: true },
  },
  {
    name: "no-deep-imports",
    comment: "Other packages are imported by their names.",
    severity: "error",
    from: { path: "^(packages|apps)/([^/]+)/" },
    to: { path: "^(packages|apps)/", pathNot: "^$1/$2/", dependencyTypesNot: ["aliased"] },
  },
  {
    name: "no-tests-in-sources",
    severity: "error",
    from: { path: "^(packages|apps)/[^/]+/src/", pathNot: testFile },
    to: { path: testFile },
  },
  {
    name: "no-apps-in-packages",
    severity: "error",
    from: { path: "^packages/" },
    to: { path: "^apps/" },
  },
  {
    name: "portable-code-has-no-node-built-in",
    comment: "Only src/node.ts and src/node/ may import them; elsewhere process.getBuiltinModule behind a guard.",
    severity: "error",
    from: { path: "^packages/[^/]+/src/", pathNot: notPortable },
    to: { dependencyTypes: ["core"] },
  },
  {
    name: "portable-code-has-no-node-part",
    comment: "Nothing that needs Node is reachable from a browser import.",
    severity: "error",
    from: { path: "^packages/[^/]+/src/", pathNot: notPortable },
    to: { path: nodePart, pathNot: twins.map((file) => `^${escapeText(file)}$`) },
  },
];

/** @type {import("dependency-cruiser").IConfiguration} */
export default {
  forbidden: [...general, ...layering],
  options: {
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    // Not `exclude`, which would hide the very edges to judge.
    doNotFollow: { path: "node_modules/|/dist/" },
    enhancedResolveOptions: {
      exportsFields: ["exports"],
      conditionNames: ["types", "import", "node", "default"],
    },
  },
};
