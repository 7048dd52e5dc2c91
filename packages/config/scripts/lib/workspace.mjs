import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

/** The root of the repository. */
export const root = resolve(fileURLToPath(new URL("../../../..", import.meta.url)));

/** Where the checks leave what they find for each other; ignored by git. */
export const cacheFolder = join(root, "node_modules/.cache/mamba-ts");

/**
 * @typedef {string | { [condition: string]: ExportTarget }} ExportTarget
 * @typedef {object} Manifest
 * @property {string} name
 * @property {string} version
 * @property {boolean} [private]
 * @property {{ [subpath: string]: ExportTarget }} [exports]
 * @property {{ [name: string]: string }} [bin]
 * @property {{ [name: string]: string }} [scripts]
 * @property {{ [name: string]: string }} [dependencies]
 * @property {{ [name: string]: string }} [devDependencies]
 * @property {{ [name: string]: string }} [peerDependencies]
 * @property {{ [name: string]: string }} [optionalDependencies]
 *
 * @typedef {object} WorkspacePackage
 * @property {string} folder relative to the root, as `packages/tensor`
 * @property {string} name as `@mamba-ts/tensor`
 * @property {Manifest} manifest
 *
 * @typedef {object} Layer
 * @property {number} layer 0 to 3
 * @property {string[]} [packages] what it may import, and so all that these may import
 * @property {string[]} [npm] third-party packages it may import
 * @property {"in tests" | "in Node"} [runs] where, when not everywhere: such a package is not bundled for browsers
 */

/** @template T @param {string} path relative to the root, or absolute @returns {T} */
export function readJson(path) {
  return JSON.parse(readFileSync(resolve(root, path), "utf8"));
}

/** The packages of one folder, in the order of their names. @param {string} parent @returns {WorkspacePackage[]} */
function packagesIn(parent) {
  if (!existsSync(join(root, parent))) return [];
  return readdirSync(join(root, parent))
    .sort()
    .map((name) => `${parent}/${name}`)
    .filter((folder) => existsSync(join(root, folder, "package.json")))
    .map((folder) => {
      const manifest = /** @type {Manifest} */ (readJson(`${folder}/package.json`));
      return { folder, name: manifest.name, manifest };
    });
}

/** Every package with sources: those below packages/ and apps/. */
export function workspacePackages() {
  return ["packages", "apps"].flatMap(packagesIn);
}

/** What is published, but for the packages of one platform. */
export function publicPackages() {
  return workspacePackages().filter(({ manifest }) => !manifest.private);
}

/** What is published beside a package for one platform each: no sources, but what was compiled for it. */
export function platformPackages() {
  return workspacePackages().flatMap(({ folder }) => packagesIn(`${folder}/prebuilt`));
}

/** The table of who may import whom. @returns {{ [name: string]: Layer }} */
export function layers() {
  return readJson("packages/config/data/layers.json");
}

/**
 * @typedef {object} EntryPoint
 * @property {string} name as a user names it: `@mamba-ts/mamba`, `@mamba-ts/mamba/load`
 * @property {string} source relative to the root, after the paths of tsconfig.json
 * @property {string} built relative to the root, after `exports`, as Node resolves it
 * @property {{ source: string, built: string } | undefined} browserTwin the module that browsers get instead
 */

/** A package's entry points: the modules it exports. @param {WorkspacePackage} pkg @returns {EntryPoint[]} */
export function entryPoints({ folder, name, manifest }) {
  const { paths } = /** @type {{ compilerOptions: { paths: { [name: string]: [string] } } }} */ (
    readJson("tsconfig.json")
  ).compilerOptions;
  return Object.entries(manifest.exports ?? {})
    .filter(([subpath]) => subpath !== "./package.json" && !subpath.endsWith(".node"))
    .map(([subpath, target]) => {
      const entry = subpath === "." ? name : `${name}/${subpath.slice(2)}`;
      const built = typeof target === "object" ? target["import"] : target;
      if (typeof built !== "string") throw new Error(`${folder}/package.json: exports ${subpath} has no "import"`);
      const twin = typeof target === "object" ? target["browser"] : undefined;
      if (twin !== undefined && typeof twin !== "string") throw new Error(`${folder}/package.json: exports ${subpath}`);
      return {
        name: entry,
        source: (paths[entry]?.[0] ?? `./${folder}/src/index.ts`).replace("./", ""),
        built: `${folder}/${built.replace("./", "")}`,
        browserTwin:
          twin === undefined
            ? undefined
            : {
                source: `${folder}/${twin.replace(/^\.\/dist\/(.*)\.js$/, "src/$1.ts")}`,
                built: `${folder}/${twin.replace("./", "")}`,
              },
      };
    });
}
