// Builds the addon with g++ and, where nvcc is, the kernels of /kernels/*/*.cu, into prebuilt/PLATFORM: what the package of that platform
// is packed from, and where the loader finds it in a clone. What is not there is said, and is no failure: the addon
// then says so when a backend is made. Objects are built again only when what they are made of has changed.

import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(dirname(fileURLToPath(import.meta.url)));
const root = join(here, "../..");
const out = join(here, "prebuilt", `${process.platform}-${process.arch}`);
/** What kernels are built for: PTX for later chips, but for what no chip but sm_90 has (a source that uses wgmma), which is empty for others. @param {string[]} files */
function targetsOf(files) {
  const isHopper = files.some((file) => readFileSync(file, "utf8").includes("wgmma"));
  const last = isHopper ? "arch=compute_90a,code=sm_90a" : "arch=compute_90,code=[sm_90,compute_90]";
  return ["-gencode", "arch=compute_80,code=sm_80", "-gencode", last];
}

/** @param {string} command */
const has = (command) => spawnSync(command, ["--version"], { stdio: "ignore" }).status === 0;

/** @param {string[]} files @param {string[]} more */
const hashOf = (files, more) => {
  const hash = createHash("sha256");
  for (const text of more) hash.update(text);
  for (const file of files) hash.update(readFileSync(file));
  return hash.digest("hex");
};

/**
 * Runs a compiler unless its result is there and made of the same; the result comes into place whole.
 * @param {string} target @param {string[]} inputs @param {string} command @param {(into: string) => string[]} args
 * @returns {Promise<boolean>} whether it is there now
 */
async function make(target, inputs, command, args) {
  const stamp = `${target}.hash`;
  const hash = hashOf(inputs, [command, ...args("")]);
  if (existsSync(target) && existsSync(stamp) && readFileSync(stamp, "utf8") === hash) return true;
  const temporary = `${target}.${process.pid}.tmp`;
  const child = spawn(command, args(temporary), { stdio: ["ignore", "inherit", "inherit"] });
  const code = await new Promise((resolve) => child.on("close", resolve).on("error", () => resolve(1)));
  if (code !== 0) {
    rmSync(temporary, { force: true });
    console.error(`backend-cuda: ${basename(target)} could not be built`);
    return false;
  }
  renameSync(temporary, target);
  writeFileSync(stamp, hash);
  return true;
}

/**
 * A kernel file and the headers of ours that it includes, and they include.
 * @param {string} source @returns {string[]}
 */
function withHeaders(source) {
  const found = new Set([source]);
  for (const file of found)
    for (const [, name] of readFileSync(file, "utf8").matchAll(/^#include "(.+)"$/gm))
      found.add(join(dirname(file), name));
  return [...found];
}

mkdirSync(out, { recursive: true });
let ok = true;

const headers = [join(dirname(dirname(process.execPath)), "include/node"), "/usr/include/node"].find((folder) =>
  existsSync(join(folder, "node_api.h")),
);
if (process.platform !== "linux") console.error("backend-cuda: the addon is built on Linux only, for now");
else if (!has("g++") || headers === undefined)
  console.error(`backend-cuda: no addon: ${headers === undefined ? "Node's headers are" : "g++ is"} not here`);
else {
  const files = readdirSync(join(here, "native")).map((name) => join(here, "native", name));
  const sources = files.filter((file) => file.endsWith(".cc"));
  const include = join(here, "node_modules/node-addon-api");
  ok = await make(join(out, "mamba_cuda.node"), files, "g++", (into) => [
    ...[
      "-std=c++17",
      "-O2",
      "-fPIC",
      "-shared",
      "-fvisibility=hidden",
      "-Wall",
      "-Wextra",
      "-Wno-cast-function-type",
      "-DNODE_ADDON_API_CPP_EXCEPTIONS",
      // What fails in a worker thread that is being ended ends with it, not with the process.
      "-DNODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS",
    ],
    ...["-fexceptions", "-isystem", include, "-isystem", headers, ...sources, "-o", into, "-ldl"],
  ]);
}

if (!has("nvcc")) console.error("backend-cuda: no kernels: nvcc is not here (CUDA toolkit 12 or later)");
else {
  const all = readdirSync(join(root, "kernels"), { recursive: true, encoding: "utf8" });
  const kernels = all.filter((file) => file.endsWith(".cu"));
  const waiting = kernels.map((file) => join(root, "kernels", file));
  const work = async () => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
      const source = file;
      const target = join(out, `${basename(file, ".cu")}.fatbin`);
      const inputs = withHeaders(source);
      const built = await make(target, inputs, "nvcc", (into) => [
        ...["-fatbin", "-O3", "-std=c++17", "--compress-mode=size", ...targetsOf(inputs), "-o", into, source],
      ]);
      ok &&= built;
    }
  };
  await Promise.all(Array.from({ length: Math.min(4, availableParallelism()) }, work));
}
process.exitCode = ok ? 0 : 1;
