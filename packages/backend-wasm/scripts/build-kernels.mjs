// Compiles kernels/*/*.cc to WebAssembly with the compiler of @yowasp/clang, and embeds the modules in generated/.
// `--variants simd,threads` builds some of them only. Rebuilds are byte-identical.
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { runClang, runLLVM } from "@yowasp/clang";

const kernels = join(import.meta.dirname, "../../../kernels");
const generated = join(import.meta.dirname, "../generated");

const compileFlags = [
  ...[
    "clang++",
    "--target=wasm32-wasip1",
    "-c",
    "-O2",
    "-fno-unroll-loops",
    "-msimd128",
    "-mbulk-memory",
    "-std=c++20",
    "-ffreestanding",
    "-I.",
  ],
  ...["-fno-exceptions", "-fno-rtti", "-fno-strict-aliasing", "-ffp-contract=off", "-fvisibility=hidden"],
  // Without this, loads in unrolled loops lose their constant offsets: half the speed.
  ...["-mllvm", "-disable-lsr", "-Wall", "-Wextra", "-Werror"],
];
const linkFlags = [
  ...["-o", "all.wasm", "--no-entry", "--import-memory", "--max-memory=4294967296", "--stack-first"],
  ...["-z", "stack-size=524288", "--export=__stack_pointer", "--export=__heap_base", "--strip-all"],
  // The C library's logf, sinf and the like; it was compiled without atomics, and needs none.
  ...["-L/usr/lib/wasm32-wasip1", "-lc", "--no-check-features"],
];
/** @typedef {{ source: string, flags: string[] }} Part */
/** What is compiled: only the pool knows of threads, and only the operations where the time goes are worth fused multiply-adds. */
/** @type {{ [object: string]: Part }} */
const parts = {
  "pool.o": { source: "pool", flags: [] },
  "pool-threads.o": { source: "pool", flags: ["-matomics"] },
  "most.o": { source: "most", flags: [] },
  "hot.o": { source: "hot", flags: [] },
  "hot-relaxed.o": { source: "hot", flags: ["-mrelaxed-simd"] },
};
const hotOperations = ["matmul", "selective-scan"];

/** @type {{ [name: string]: { objects: string[], flags: string[] } }} */
const variants = {
  simd: { objects: ["pool.o", "most.o", "hot.o"], flags: [] },
  threads: { objects: ["pool-threads.o", "most.o", "hot.o"], flags: ["--shared-memory"] },
  relaxed: { objects: ["pool.o", "most.o", "hot-relaxed.o"], flags: [] },
  "relaxed-threads": { objects: ["pool-threads.o", "most.o", "hot-relaxed.o"], flags: ["--shared-memory"] },
};

/** @typedef {{ [name: string]: string | Tree }} Tree */
/** @type {Tree} */
const sources = {};
/** One translation unit each, since an invocation of the compiler costs more than most files. */
/** @type {{ [source: string]: string[] }} */
const units = { pool: [`#include "common/pool.cc"\n`], most: [], hot: [] };
for (const folder of readdirSync(kernels).sort()) {
  if (!statSync(join(kernels, folder)).isDirectory()) continue;
  /** @type {Tree} */
  const files = {};
  for (const file of readdirSync(join(kernels, folder)).sort())
    if (/\.(cc|h)$/.test(file)) files[file] = readFileSync(join(kernels, folder, file), "utf8");
  sources[folder] = files;
  const names = Object.keys(files).map((file) => `${folder}/${file}`);
  const include = (/** @type {string} */ end) =>
    names.flatMap((name) => (name.endsWith(end) ? [`#include "${name}"\n`] : [])).join("");
  const unit = units[hotOperations.includes(folder) ? "hot" : "most"];
  // A namespace for each operation.
  if (folder !== "common") unit?.push(`namespace of_${unit.length} {\n${include(".cc")}}\n`);
  else for (const each of [units["most"], units["hot"]]) each?.unshift(include(".h"));
}
for (const [name, lines] of Object.entries(units)) sources[`${name}.cc`] = lines.join("");

/** @param {() => Promise<any>} step @param {string} what */
async function must(step, what) {
  try {
    return await step();
  } catch (error) {
    const code = /** @type {{ code?: number }} */ (error).code;
    // With a code, the compiler has said what is wrong.
    if (code === undefined) throw error;
    console.error(`${what} failed`);
    process.exit(1);
  }
}

const options = {
  fetchProgress: () => {},
  stdout: () => {},
  /** @param {Uint8Array | null} bytes */
  stderr: (bytes) => {
    if (bytes) process.stderr.write(bytes);
  },
};

rmSync(generated, { recursive: true, force: true });
mkdirSync(generated, { recursive: true });
const at = process.argv.indexOf("--variants");
const chosen = at < 0 ? Object.keys(variants) : (process.argv[at + 1] ?? "").split(",");
/** @type {{ [object: string]: Uint8Array }} */
const compiled = {};
for (const name of chosen) {
  const variant = variants[name];
  if (variant === undefined) throw new Error(`no variant ${name}; there are ${Object.keys(variants).join(", ")}`);
  for (const object of variant.objects) {
    const { source, flags } = /** @type {Part} */ (parts[object]);
    compiled[object] ??= (
      await must(
        () => runClang([...compileFlags, ...flags, `${source}.cc`, "-o", object], sources, options),
        `compiling ${object}`,
      )
    )[object];
  }
  const flags = [...variant.objects, ...linkFlags, ...variant.flags];
  const linked = await must(() => runLLVM(["wasm-ld", ...flags], compiled, options), `linking ${name}`);
  const wasm = Buffer.from(linked["all.wasm"]);
  writeFileSync(
    join(generated, `${name}.js`),
    `// The kernels compiled to WebAssembly: ${wasm.length} bytes.\nexport default "${wasm.toString("base64")}";\n`,
  );
  console.error(`${name}: ${wasm.length} bytes, ${gzipSync(wasm).length} gzipped`);
}
