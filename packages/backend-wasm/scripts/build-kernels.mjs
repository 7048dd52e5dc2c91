// Compiles kernels/*/*.cc to WebAssembly with the compiler of @yowasp/clang, and embeds the modules in generated/.
// `--variants simd,threads` builds some of them only. Rebuilds are byte-identical.
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
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
  ...[
    "wasm-ld",
    "all.o",
    "-o",
    "all.wasm",
    "--no-entry",
    "--import-memory",
    "--max-memory=4294967296",
    "--stack-first",
  ],
  ...["-z", "stack-size=524288", "--export=__stack_pointer", "--export=__heap_base", "--strip-all"],
  // The C library's logf, sinf and the like; it was compiled without atomics, and needs none.
  ...["-L/usr/lib/wasm32-wasip1", "-lc", "--no-check-features"],
];
/** @type {{ [name: string]: { compile: string[], link: string[] } }} */
const variants = {
  simd: { compile: [], link: [] },
  threads: { compile: ["-matomics"], link: ["--shared-memory"] },
};

/** @typedef {{ [name: string]: string | Tree }} Tree */
/** @type {Tree} */
const sources = {};
/** @type {string[]} */
const common = [];
/** @type {string[]} */
const operations = [];
for (const folder of readdirSync(kernels).sort()) {
  if (!statSync(join(kernels, folder)).isDirectory()) continue;
  /** @type {Tree} */
  const files = {};
  /** @type {string[]} */
  const includes = [];
  for (const file of readdirSync(join(kernels, folder)).sort()) {
    if (!/\.(cc|h)$/.test(file)) continue;
    files[file] = readFileSync(join(kernels, folder, file), "utf8");
    const include = `#include "${folder}/${file}"\n`;
    if (folder === "common") common.push(include);
    else if (file.endsWith(".cc")) includes.push(include);
  }
  operations.push(`namespace of_${operations.length} {\n${includes.join("")}}\n`);
  sources[folder] = files;
}
// One translation unit, since an invocation of the compiler costs more than most files; a namespace for each operation.
sources["all.cc"] = [...common, ...operations].join("");

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
for (const name of chosen) {
  const { compile, link } = variants[name] ?? { compile: [], link: [] };
  const objects = await must(
    () => runClang([...compileFlags, ...compile, "all.cc", "-o", "all.o"], sources, options),
    `compiling ${name}`,
  );
  const linked = await must(() => runLLVM([...linkFlags, ...link], objects, options), `linking ${name}`);
  const wasm = Buffer.from(linked["all.wasm"]);
  writeFileSync(
    join(generated, `${name}.js`),
    `// The kernels compiled to WebAssembly: ${wasm.length} bytes.\nexport default "${wasm.toString("base64")}";\n`,
  );
  console.error(`${name}: ${wasm.length} bytes`);
}
