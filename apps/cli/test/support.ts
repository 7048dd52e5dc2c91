/** The command as it is built, run from outside, and files to give it. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { readTensor } from "@mamba-ts/checkpoint";
import { openSafetensorsFile } from "@mamba-ts/checkpoint/node";
import { afterAll } from "vitest";

export const bin = fileURLToPath(new URL("../dist/bin.js", import.meta.url));
export const fixtures = fileURLToPath(new URL("../../../packages/mamba/test/fixtures", import.meta.url));
/** A backend that this package does not know. */
export const template = fileURLToPath(new URL("../../backend-template/dist/index.js", import.meta.url));
export const isBuilt = existsSync(bin);
if (!isBuilt) console.warn("The tests of the command are left out: it is not built. Build first: npx pnpm@10 build");

const folder = mkdtempSync(join(tmpdir(), "cli-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
export const inFolder = (name: string): string => join(folder, name);
export const written = (name: string, content: string): string => {
  writeFileSync(inFolder(name), content);
  return inFolder(name);
};

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `mamba …`; `meanwhile` gets the process. */
export function mamba(args: readonly string[], meanwhile?: (process: ChildProcess) => void): Promise<Ended> {
  return run(process.execPath, [bin, ...args], meanwhile);
}

export function run(
  command: string,
  args: readonly string[],
  meanwhile?: (process: ChildProcess) => void,
): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
    let [stdout, stderr] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
    child.on("error", reject);
    child.on("close", (code, signal) => resolve({ code, signal, stdout, stderr }));
    meanwhile?.(child);
  });
}

/** Sends Ctrl-C soon after the process has said that it wants to know of it. */
export function interrupt(child: ChildProcess): void {
  const status = `/proc/${child.pid}/status`;
  // Linux tells which signals a process catches; elsewhere a while has to do.
  const isReady = (): boolean => {
    const caught = /^SigCgt:\s*([0-9a-f]+)$/m.exec(readFileSync(status, "utf8"))?.[1] ?? "0";
    return (Number.parseInt(caught.slice(-1), 16) & 2) !== 0;
  };
  const send = (after: number): void => void setTimeout(() => child.kill("SIGINT"), after);
  if (!existsSync(status)) {
    send(3000);
    return;
  }
  const timer = setInterval(() => {
    if (child.exitCode !== null || !existsSync(status)) clearInterval(timer);
    else if (isReady()) {
      clearInterval(timer);
      send(700);
    }
  }, 20);
}

/** Runs a `mamba …` that must succeed. */
export async function done(...args: string[]): Promise<Ended> {
  const ended = await mamba(args);
  if (ended.code !== 0) throw new Error(`mamba ${args.join(" ")}: exit code ${ended.code}\n${ended.stderr}`);
  return ended;
}

/** Every tensor of a file, by name. */
export async function tensorsOf(path: string): Promise<Map<string, { shape: readonly number[]; data: Float64Array }>> {
  const backend = createCpuBackend();
  const source = await openSafetensorsFile(path);
  const all = new Map<string, { shape: readonly number[]; data: Float64Array }>();
  for (const name of source.names) {
    const t = await readTensor(source, name, backend);
    all.set(name, { shape: t.shape, data: Float64Array.from(await t.data()) });
    t.dispose();
  }
  await source.close();
  return all;
}
