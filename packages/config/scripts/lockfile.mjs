// The lockfile names no registry host: everybody installs from the registry of their own configuration.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./lib/workspace.mjs";

const lines = readFileSync(join(root, "pnpm-lock.yaml"), "utf8").split("\n");
const faults = lines.flatMap((line, i) =>
  /https?:\/\/|tarball:/.test(line) ? [`pnpm-lock.yaml:${i + 1}: ${line.trim()}`] : [],
);
for (const fault of faults) console.error(fault);
process.exitCode = faults.length > 0 ? 1 : 0;
