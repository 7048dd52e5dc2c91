// Says what is missing in the packages of the platforms, and fails: none is to be published without its addon or a kernel, or with another
// platform's. Part of the release; a clone builds for its own platform only.
//   node packages/backend-cuda/scripts/check-native.mjs [FOLDER]   by default ../prebuilt
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(dirname(fileURLToPath(import.meta.url)));
const ADDON = "mamba_cuda.node";
const prebuilt = resolve(process.argv[2] ?? join(here, "prebuilt"));

/** What the files begin with. */
const ELF = 0x7f454c46;
const FATBIN = 0xba55ed50;
/** ELF's e_machine by Node's names. @type {{ [cpu: string]: number }} */
const machines = { x64: 62, arm64: 183 };

const kernels = readdirSync(join(here, "../../kernels"), { recursive: true, encoding: "utf8" })
  .filter((file) => file.endsWith(".cu"))
  .map((file) => `${basename(file, ".cu")}.fatbin`);

/** @type {{ optionalDependencies: { [name: string]: string } }} */
const { optionalDependencies } = JSON.parse(readFileSync(join(here, "package.json"), "utf8"));

/** The first bytes of a file. @param {string} file */
function head(file) {
  const bytes = Buffer.alloc(20);
  const descriptor = openSync(file, "r");
  readSync(descriptor, bytes);
  closeSync(descriptor);
  return bytes;
}

/** What is wrong with a file that is there. @param {string} folder @param {string} file @param {string} platform as `linux-x64` */
function faultOf(folder, file, platform) {
  if (file !== ADDON && !kernels.includes(file)) return "is of no kernel in /kernels";
  const bytes = head(join(folder, file));
  if (file !== ADDON) return bytes.readUInt32LE(0) === FATBIN ? undefined : "is no fat binary";
  const isOurs = bytes.readUInt32BE(0) === ELF && bytes.readUInt16LE(18) === machines[platform.split("-")[1] ?? ""];
  return isOurs ? undefined : `is not made for ${platform}`;
}

/** What is wrong with one platform's package. @param {string} platform @returns {string[]} */
function faultsOf(platform) {
  const folder = join(prebuilt, platform);
  const files = existsSync(folder) ? readdirSync(folder) : [];
  const missing = [ADDON, ...kernels].filter((file) => !files.includes(file));
  const faults = missing.length === 0 ? [] : [`not there: ${missing.join(", ")}`];
  for (const file of files.filter((name) => /\.(node|fatbin)$/.test(name))) {
    const fault = faultOf(folder, file, platform);
    if (fault !== undefined) faults.push(`${file} ${fault}`);
  }
  return faults.map((fault) => `${platform}: ${fault}`);
}

const platforms = Object.keys(optionalDependencies).map((name) => name.replace("@mamba-ts/backend-cuda-", ""));
const faults = platforms.flatMap(faultsOf);
for (const fault of faults) console.error(`backend-cuda: ${fault}`);
if (faults.length === 0) console.log(`backend-cuda: complete for ${platforms.join(" and ")}`);
process.exitCode = faults.length > 0 ? 1 : 0;
