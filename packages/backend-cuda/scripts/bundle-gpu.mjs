// Bundles the programs of test/gpu, with the addon and the kernels beside them, for a machine that has nothing but Node and a GPU:
//   node packages/backend-cuda/scripts/bundle-gpu.mjs FOLDER
//   MAMBA_TS_CUDA_NATIVE=FOLDER node FOLDER/conformance.js
import { copyFileSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(dirname(fileURLToPath(import.meta.url)));
const root = join(here, "../..");
const out = process.argv[2];
if (out === undefined) throw new Error("usage: bundle-gpu.mjs FOLDER");
mkdirSync(out, { recursive: true });
/** @type {{ compilerOptions: { paths: { [name: string]: string[] } } }} */
const { compilerOptions } = JSON.parse(readFileSync(join(root, "tsconfig.json"), "utf8"));
const programs = readdirSync(join(here, "test/gpu")).filter((file) => file.endsWith(".ts"));
await build({
  entryPoints: programs.map((file) => join(here, "test/gpu", file)),
  outdir: out,
  bundle: true,
  platform: "node",
  format: "esm",
  target: "node20",
  outExtension: { ".js": ".mjs" },
  tsconfigRaw: { compilerOptions: { target: "es2022", useDefineForClassFields: true } },
  banner: { js: 'import { createRequire as __cr } from "node:module"; const require = __cr(import.meta.url);' },
  plugins: [
    {
      name: "sources",
      setup: (bundler) => {
        bundler.onResolve({ filter: /^@mamba-ts\// }, ({ path }) => {
          const exact = compilerOptions.paths[path]?.[0];
          const found = exact ?? `./packages/${path.slice("@mamba-ts/".length)}/src/index.ts`;
          return { path: join(root, found) };
        });
      },
    },
  ],
});
const native = join(here, "prebuilt/linux-x64");
for (const file of readdirSync(native))
  if (/\.(node|fatbin)$/.test(file)) copyFileSync(join(native, file), join(out, file));
console.log(`${programs.length} programs in ${out}`);
