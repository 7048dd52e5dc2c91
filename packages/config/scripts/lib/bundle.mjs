import { existsSync } from "node:fs";
import { builtinModules } from "node:module";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { build as esbuild } from "esbuild";
import { build as vite } from "vite";
import { root, workspacePackages } from "./workspace.mjs";

/**
 * @typedef {object} Bundle one file with all that the entry points reach, lazily loaded parts included
 * @property {number} gzipped bytes
 * @property {string[]} external what the bundler left out
 */

/**
 * A folder from which all of these packages resolve the way they do for a user: through node_modules and `exports`.
 * @param {string[]} entries entry points, as `@mamba-ts/mamba/load`
 */
function importer(entries) {
  const names = [...new Set(entries.map((entry) => entry.split("/").slice(0, 2).join("/")))];
  const found = workspacePackages().find(({ folder, name }) =>
    names.every((wanted) => wanted === name || existsSync(join(root, folder, "node_modules", wanted))),
  );
  if (!found) throw new Error(`no package depends on all of ${names.join(", ")}`);
  return join(root, found.folder);
}

/** @param {string[]} entries */
const program = (entries) => entries.map((entry) => `export * from ${JSON.stringify(entry)};`).join("\n");

/** @param {string} code @returns {number} bytes */
export const gzipped = (code) => gzipSync(code, { level: 9 }).length;

/** @param {string[]} entries @returns {Promise<Bundle>} */
export async function bundleWithEsbuild(entries) {
  const { outputFiles, metafile } = await esbuild({
    stdin: { contents: program(entries), resolveDir: importer(entries), sourcefile: "entry.js" },
    bundle: true,
    minify: true,
    format: "esm",
    platform: "browser",
    target: "es2022",
    metafile: true,
    write: false,
    // A user has no tsconfig.json whose paths lead to the sources.
    tsconfigRaw: {},
    logLevel: "silent",
  });
  const external = Object.values(metafile.outputs).flatMap(({ imports }) => imports.map(({ path }) => path));
  return { gzipped: gzipped(outputFiles.map(({ text }) => text).join("")), external };
}

/** @param {string[]} entries @returns {Promise<Bundle>} */
export async function bundleWithVite(entries) {
  const folder = importer(entries);
  const entry = join(folder, "entry.js");
  /** @type {string[]} */
  const external = [];
  const result = await vite({
    configFile: false,
    root: folder,
    logLevel: "silent",
    plugins: [
      {
        name: "entry",
        enforce: "pre",
        resolveId(id) {
          if (id === entry) return id;
          // Vite would put an empty module in the place of a Node built-in, and go on.
          if (id.startsWith("node:") || builtinModules.includes(id)) external.push(id);
          return undefined;
        },
        load: (id) => (id === entry ? program(entries) : undefined),
      },
    ],
    build: {
      target: "es2022",
      minify: "esbuild",
      write: false,
      copyPublicDir: false,
      modulePreload: { polyfill: false },
      rollupOptions: { input: entry, preserveEntrySignatures: "strict", output: { inlineDynamicImports: true } },
    },
  });
  const outputs = (Array.isArray(result) ? result : [result]).flatMap((one) => ("output" in one ? one.output : []));
  const chunks = outputs.flatMap((output) => (output.type === "chunk" ? [output] : []));
  for (const chunk of chunks) external.push(...chunk.imports, ...chunk.dynamicImports);
  return { gzipped: gzipped(chunks.map(({ code }) => code).join("")), external };
}
