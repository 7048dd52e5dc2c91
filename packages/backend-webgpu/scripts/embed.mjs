// Writes src/generated/kernels.ts: every WGSL entry of kernels/ with what a launch needs to know of it, as types. A kernel is
// `<op>/<name>`; `// #include "../common/x.wgsl"` brings in shared functions, and `const N: u32 = 1u; // @specialize` lines may be
// given another value when a pipeline is made. Where an included file has a twin `x-subgroups.wgsl` or `x-f16.wgsl`, the kernel has another
// source with it, for adapters that have this.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../../kernels/", import.meta.url));
const target = fileURLToPath(new URL("../src/generated/kernels.ts", import.meta.url));

/**
 * The text of a file with its includes, each of them once.
 * @param {string} file @param {string} suffix of the twins that are taken instead @param {Set<string>} seen @returns {string}
 */
function expand(file, suffix = "", seen = new Set()) {
  seen.add(file);
  return readFileSync(file, "utf8").replace(/^\/\/ #include "(.+)"$/gm, (_, path) => {
    const plain = resolve(dirname(file), path);
    const twin = plain.replace(/\.wgsl$/, `${suffix}.wgsl`);
    const included = existsSync(twin) ? twin : plain;
    return seen.has(included) ? "" : expand(included, suffix, seen);
  });
}

/** Without comments and indentation; the marked lines keep their mark. @param {string} source */
function compact(source) {
  return source
    .split("\n")
    .map((line) => (line.endsWith("// @specialize") ? line.trim() : line.replace(/\/\/.*$/, "").trim()))
    .filter((line) => line !== "")
    .join("\n");
}

/**
 * @param {string} name @param {string} source @param {string} subgroups the source for adapters with subgroups of one size
 * @param {string} f16 the source for operands in f16, for adapters with shader-f16
 */
function describe(name, source, subgroups, f16) {
  const bindings = [...source.matchAll(/^@group\(0\) @binding\((\d+)\) var<storage, (read|read_write)> (\w+):/gm)];
  bindings.forEach((match, i) => {
    if (Number(match[1]) !== i) throw new Error(`${name}: binding ${match[1]} (${match[3]}) stands in place ${i}`);
  });
  const struct = /struct Params \{([^}]*)\}/.exec(source);
  if (struct === null) throw new Error(`${name}: no struct Params`);
  return {
    bindings: bindings.map(([, , access, binding]) => ({ name: binding, writes: access === "read_write" })),
    params: [...(struct[1] ?? "").matchAll(/(\w+): (\w+)/g)].map(([, param, type]) => ({ name: param, type })),
    overrides: [...source.matchAll(/^override (\w+): \w+/gm)].map(([, override]) => override),
    specialisations: [...source.matchAll(/^const (\w+): u32 = \d+u; \/\/ @specialize$/gm)].map(
      ([, constant]) => constant,
    ),
    source,
    // The size is filled in by the runtime.
    ...(subgroups === source ? {} : { subgroups: `enable subgroups;\n${subgroups}` }),
    ...(f16 === source ? {} : { f16: `enable f16;\n${f16}` }),
  };
}

/** Writes the module, unless it is as it should be already. */
export function embedKernels() {
  /** @type {{ [name: string]: ReturnType<typeof describe> }} */
  const kernels = {};
  for (const folder of readdirSync(root, { withFileTypes: true })) {
    if (!folder.isDirectory() || folder.name === "common" || folder.name === "node_modules") continue;
    for (const file of readdirSync(join(root, folder.name)).sort()) {
      if (!file.endsWith(".wgsl")) continue;
      const name = `${folder.name}/${file.slice(0, -".wgsl".length)}`;
      const path = join(root, folder.name, file);
      const [plain, subgroups, f16] = ["", "-subgroups", "-f16"].map((suffix) => compact(expand(path, suffix)));
      kernels[name] = describe(name, plain ?? "", subgroups ?? "", f16 ?? "");
    }
  }
  const sorted = Object.fromEntries(Object.entries(kernels).sort(([a], [b]) => (a < b ? -1 : 1)));
  mkdirSync(dirname(target), { recursive: true });
  const text = `// Made by scripts/embed.mjs from kernels/**/*.wgsl.\nexport const kernels = ${JSON.stringify(sorted, null, 1)} as const;\n`;
  // Left alone where nothing has changed, so that nothing that watches it starts over.
  if (!existsSync(target) || readFileSync(target, "utf8") !== text) writeFileSync(target, text);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) embedKernels();
