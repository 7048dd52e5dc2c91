// Bundles the command line and its portable backends, from what is built, for a machine that has Node alone:
//   node packages/config/scripts/bundle-cli.mjs FOLDER
//   node FOLDER/dist/mamba.mjs forward --backend FOLDER/dist/backend-wasm.mjs …
// Run `pnpm build` before. A backend is a file of its own since the command loads it by its path.
import { cpSync, mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { build } from "esbuild";
import { root } from "./lib/workspace.mjs";

const folder = process.argv[2];
if (folder === undefined) throw new Error("usage: bundle-cli.mjs FOLDER");
const out = resolve(folder);
mkdirSync(join(out, "dist"), { recursive: true });
await build({
  entryPoints: {
    mamba: join(root, "apps/cli/dist/bin.js"),
    "backend-cpu": join(root, "packages/backend-cpu/dist/index.js"),
    "backend-wasm": join(root, "packages/backend-wasm/dist/index.js"),
  },
  outdir: join(out, "dist"),
  bundle: true,
  minify: true,
  platform: "node",
  format: "esm",
  target: "node20",
  logLevel: "error",
  outExtension: { ".js": ".mjs" },
  // As a user's: without the paths of the root's tsconfig.json.
  tsconfigRaw: {},
  banner: { js: 'import { createRequire as __cr } from "node:module"; const require = __cr(import.meta.url);' },
});
// The command reads its version there.
cpSync(join(root, "apps/cli/package.json"), join(out, "package.json"));
