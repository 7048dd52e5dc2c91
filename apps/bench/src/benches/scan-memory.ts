/** Peak memory of a long scan, in a fresh process for each way to run it, since a process never forgets its peak. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import type { Backend } from "@mamba-ts/backend";
import { composedOnly } from "@mamba-ts/backend-testing/cases";
import { Rng, scope, Tensor } from "@mamba-ts/tensor";
import { type Context, openBackend } from "../context.js";
import { type ScanTensors, scanGradients, scanShapes } from "./scan.js";

const [LENGTH, INNER, STATE] = [65_536, 128, 16];
/** Of the whole process, in bytes. */
export const MEMORY_LIMIT = 600e6;

export const scanModes = ["fused", "composed"] as const;
export type ScanMode = (typeof scanModes)[number];

interface Peak {
  /** Resident, of the whole process, in bytes. */
  readonly peakBytes: number;
  /** The same once the arguments were there, before the scan. */
  readonly beforeBytes: number;
  readonly seconds: number;
}

/** The selective scan with every option, forward and backward, with the backend's fused ops and without. */
export async function scanMemoryBench({ backendName, device, emit }: Context): Promise<void> {
  for (const mode of scanModes) {
    const peak = await inChild(mode, backendName);
    const data = {
      bench: "scan memory",
      mode,
      device,
      shape: `1 x ${LENGTH} x ${INNER}, dState ${STATE}`,
      dtype: "float32",
      ...peak,
      limitBytes: MEMORY_LIMIT,
      within: peak.peakBytes < MEMORY_LIMIT,
    };
    const mb = (n: number): string => `${(n / 1e6).toFixed(0)} MB`;
    emit(
      `scan memory  ${data.shape}  ${mode}: peak ${mb(peak.peakBytes)} of ${mb(MEMORY_LIMIT)} allowed` +
        ` (${mb(peak.beforeBytes)} before the scan), ${peak.seconds.toFixed(1)} s`,
      data,
    );
    if (!data.within) process.exitCode = 1;
  }
}

async function inChild(mode: ScanMode, backend: string): Promise<Peak> {
  const child = spawn(process.execPath, [process.argv[1]!, "scan-memory-child", "--mode", mode, "--backend", backend], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let text = "";
  child.stdout.setEncoding("utf8").on("data", (part: string) => {
    text += part;
  });
  const [code] = (await once(child, "close")) as [number | null];
  if (code !== 0) throw new Error(`scan memory, ${mode}: the process ended with ${code ?? "a signal"}`);
  return JSON.parse(text) as Peak;
}

/** What the child process does. */
export async function scanMemoryChild(mode: string | undefined, backendName: string): Promise<void> {
  const own = await openBackend(backendName);
  const backend = mode === "composed" ? composedOnly(own) : own;
  const inputs = makeInputs(backend);
  await backend.synchronize();
  const beforeBytes = peakBytes();
  const start = performance.now();
  const gradients = scope(() => scanGradients(inputs));
  await backend.synchronize();
  const result: Peak = { peakBytes: peakBytes(), beforeBytes, seconds: (performance.now() - start) / 1000 };
  // Only a scan that was computed counts.
  for (const g of gradients) if (!(await g.data()).every(Number.isFinite)) throw new Error("a gradient is not finite");
  process.stdout.write(JSON.stringify(result));
}

function peakBytes(): number {
  return process.resourceUsage().maxRSS * 1024;
}

/** Uploads piece by piece: copies of the arguments on the host would count as the scan's memory. */
function makeInputs(backend: Backend): ScanTensors {
  const rng = new Rng(1);
  const shapes = Object.entries(scanShapes(LENGTH, INNER, STATE));
  return Object.fromEntries(
    shapes.map(([name, [shape, low, high]]) => {
      const size = (shape as readonly number[]).reduce((a, b) => a * b, 1);
      const buf = backend.alloc(size, "float32");
      for (let at = 0; at < size; at += 2 ** 16) {
        const part = Float32Array.from(rng.uniform(Math.min(2 ** 16, size - at)), (u) => low + (high - low) * u);
        backend.write(buf, part, at);
      }
      return [name, Tensor.fromBuffer(backend, buf, shape)];
    }),
  ) as unknown as ScanTensors;
}
