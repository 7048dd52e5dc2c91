// The packages as users get them: packs all, installs the tarballs into an empty Node project and an empty Vite project,
// and type-checks, builds and runs there the snippets of the packages' READMEs that are marked ```ts check (or
// ```ts check node: not for browsers). The packages must be built.
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { packAll } from "./lib/pack.mjs";
import { run, runPnpm } from "./lib/run.mjs";
import { snippets } from "./lib/snippets.mjs";
import { entryPoints, layers, platformPackages, readJson } from "./lib/workspace.mjs";

/** @typedef {import("./lib/pack.mjs").Tarball} Tarball */
/** @typedef {import("./lib/snippets.mjs").Snippet} Snippet */

const pins = /** @type {{ devDependencies: { [name: string]: string } }} */ (readJson("package.json")).devDependencies;
const table = layers();
/** @type {string[]} */
const faults = [];

const packed = await packAll();
const forPlatform = new Set(platformPackages().map(({ name }) => name));
/** What a user asks for; the packages of a platform come with those. */
const tarballs = packed.filter(({ pkg }) => !forPlatform.has(pkg.name));
const portable = tarballs.filter(({ pkg }) => {
  const layer = table[pkg.folder.slice("packages/".length)];
  return layer !== undefined && layer.runs === undefined;
});
const all = tarballs.flatMap(({ pkg }) => {
  const found = snippets(pkg);
  if (found.length === 0 && entryPoints(pkg).length > 0)
    faults.push(`${pkg.folder}/README.md: no snippet marked \`\`\`ts check`);
  return found;
});
const forBrowsers = portable.flatMap(({ pkg }) => snippets(pkg)).filter(({ nodeOnly }) => !nodeOnly);
const temporary = mkdtempSync(join(tmpdir(), "mamba-ts-"));
try {
  await inNode(join(temporary, "node"));
  await inVite(join(temporary, "vite"));
} finally {
  rmSync(temporary, { recursive: true, force: true });
}

for (const fault of faults) console.error(fault);
process.exitCode = faults.length > 0 ? 1 : 0;

/** Every package and every snippet, under the strictest settings a user may have. @param {string} folder */
async function inNode(folder) {
  const installed = await project(folder, tarballs, ["typescript", "@types/node", "vitest"], {
    module: "nodenext",
    target: "es2022",
    lib: ["es2022"],
    types: ["node"],
    outDir: "out",
  });
  if (!installed) return;
  sources(folder, all);
  if (!(await step("types in a Node project", await runPnpm(["exec", "tsc"], { cwd: folder })))) return;
  for (const { file, where } of all) {
    await step(where, await run(process.execPath, [join("out", file.replace(/\.ts$/, ".js"))], { cwd: folder }));
  }
  for (const { pkg } of tarballs) {
    for (const command of Object.keys(pkg.manifest.bin ?? {})) {
      await step(`${command} --help`, await runPnpm(["exec", command, "--help"], { cwd: folder }));
    }
  }
}

/** The packages for browsers; what Vite makes of a portable snippet has to run in Node, too. @param {string} folder */
async function inVite(folder) {
  const installed = await project(folder, portable, ["typescript", "vite"], {
    module: "esnext",
    moduleResolution: "bundler",
    target: "es2022",
    lib: ["es2022", "dom", "dom.iterable"],
    types: [],
    noEmit: true,
  });
  if (!installed) return;
  sources(folder, forBrowsers);
  if (!(await step("types in a Vite project", await runPnpm(["exec", "tsc"], { cwd: folder })))) return;
  const input = Object.fromEntries(forBrowsers.map(({ file }) => [file.replace(/\.ts$/, ""), `src/${file}`]));
  const config = { build: { target: "es2022", modulePreload: { polyfill: false }, rollupOptions: { input } } };
  writeFileSync(join(folder, "vite.config.js"), `export default ${JSON.stringify(config)};\n`);
  const build = await runPnpm(["exec", "vite", "build"], { cwd: folder });
  if (!(await step("vite build", build))) return;
  if (build.output.includes("externalized for browser"))
    faults.push(`vite build: a Node built-in is reachable:\n${build.output}`);
  const assets = join(folder, "dist/assets");
  for (const { file, where } of forBrowsers) {
    const output = readdirSync(assets).find(
      (name) => name.startsWith(`${file.replace(/\.ts$/, "")}-`) && name.endsWith(".js"),
    );
    if (output === undefined) faults.push(`${where}: Vite made nothing of it`);
    else await step(`${where}, built by Vite`, await run(process.execPath, [join(assets, output)], { cwd: folder }));
  }
}

/**
 * An empty project with these packages installed from their tarballs, also where they depend on each other.
 * @param {string} folder
 * @param {Tarball[]} asked
 * @param {string[]} tools development dependencies, at the versions of this repository
 * @param {object} compilerOptions
 */
async function project(folder, asked, tools, compilerOptions) {
  mkdirSync(join(folder, "src"), { recursive: true });
  const files = (/** @type {Tarball[]} */ list) =>
    Object.fromEntries(list.map(({ pkg, file }) => [pkg.name, `file:${file}`]));
  const write = (/** @type {string} */ name, /** @type {object} */ value) =>
    writeFileSync(join(folder, name), `${JSON.stringify(value, null, 2)}\n`);
  write("package.json", {
    name: "user",
    private: true,
    type: "module",
    dependencies: files(asked),
    devDependencies: Object.fromEntries(tools.map((name) => [name, pins[name]])),
  });
  // JSON is YAML.
  write("pnpm-workspace.yaml", {
    packages: ["."],
    overrides: files(packed),
    autoInstallPeers: false,
    confirmModulesPurge: false,
  });
  write("tsconfig.json", {
    compilerOptions: {
      strict: true,
      exactOptionalPropertyTypes: true,
      noUncheckedIndexedAccess: true,
      skipLibCheck: false,
      rootDir: "src",
      ...compilerOptions,
    },
    include: ["src"],
  });
  const install = await runPnpm(["install", "--no-frozen-lockfile", "--prefer-offline", "--ignore-scripts"], {
    cwd: folder,
  });
  return step(`installing into an empty project (${tools.at(-1)})`, install);
}

/** @param {string} folder @param {Snippet[]} list */
function sources(folder, list) {
  for (const { file, code } of list) writeFileSync(join(folder, "src", file), `${code}\nexport {};\n`);
}

/** @param {string} what @param {{ code: number, output: string }} result */
async function step(what, { code, output }) {
  if (code === 0) console.log(`ok  ${what}`);
  else faults.push(`${what}: failed\n${output.trim()}`);
  return code === 0;
}
