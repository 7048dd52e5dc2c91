/** Time and peak memory of S4's kernels and convolution against the length, each in a fresh process, since a process never forgets its peak. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { linePlot } from "@mamba-ts/app-figures";
import { type Backend, InvalidArgumentError } from "@mamba-ts/backend";
import { resolveLayerConfig, S4Convolution } from "@mamba-ts/s4";
import { Rng, randomNormal, scope } from "@mamba-ts/tensor";
import { type Context, openBackend } from "../context.js";

const [HEADS, STATE] = [4, 64];
const lengths = [2 ** 10, 2 ** 12, 2 ** 14, 2 ** 16, 2 ** 18, 2 ** 20];
export const s4Parts = ["S4D kernel", "S4 kernel", "convolution"] as const;
type Part = (typeof s4Parts)[number];

interface Cost {
  readonly milliseconds: number;
  /** Of all threads, which other programs on the machine do not change as they do the time that passes. */
  readonly processorMilliseconds: number;
  /** Resident, of the whole process, beyond what it had before. */
  readonly bytes: number;
}

/** A table, and with --picture a plot. */
export async function s4CostBench({ backendName, device, emit, picture }: Context): Promise<void> {
  const table = new Map<Part, Cost[]>();
  for (const part of s4Parts) {
    const costs: Cost[] = [];
    table.set(part, costs);
    for (const length of lengths) {
      const cost = await inChild(part, length, backendName);
      costs.push(cost);
      const perSample = (cost.processorMilliseconds * 1e6) / length;
      emit(
        `s4 cost  ${part}, length ${length}: ${cost.milliseconds.toFixed(1)} ms, ${cost.processorMilliseconds.toFixed(1)} ms of processor time, ${perSample.toFixed(0)} ns a sample,` +
          ` ${(perSample / Math.log2(length)).toFixed(1)} ns per sample and doubling; peak ${(cost.bytes / 1e6).toFixed(0)} MB,` +
          ` ${(cost.bytes / length).toFixed(0)} bytes a sample`,
        { bench: "s4 cost", part, length, heads: HEADS, dState: STATE, dtype: "float32", device, ...cost },
      );
    }
  }
  if (picture !== undefined) await writeFile(picture, drawCosts(table));
}

function drawCosts(table: ReadonlyMap<Part, readonly Cost[]>): string {
  const [longest, cost] = [lengths.at(-1)!, table.get("convolution")!.at(-1)!.processorMilliseconds];
  const guide = lengths.map((l) => (cost * l * Math.log2(l)) / (longest * Math.log2(longest)));
  return linePlot({
    title: `S4 against the length: processor time, and dashed memory; ${HEADS} heads, state ${STATE}, float32`,
    xLabel: "samples",
    yLabel: "ms, MB",
    logX: true,
    logY: true,
    height: 400,
    series: [
      ...[...table].map(([name, costs]) => ({ name, x: lengths, y: costs.map((c) => c.processorMilliseconds) })),
      ...[...table].map(([name, costs]) => ({
        name: `${name}, MB`,
        x: lengths,
        y: costs.map((c) => Math.max(1e5, c.bytes) / 1e6),
        style: "dashed" as const,
      })),
      { name: "L log L", x: lengths, y: guide, style: "points" },
    ],
  });
}

async function inChild(part: Part, length: number, backend: string): Promise<Cost> {
  const mode = `${part}:${length}`;
  const child = spawn(process.execPath, [process.argv[1]!, "s4-cost-child", "--mode", mode, "--backend", backend], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let text = "";
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    text += chunk;
  });
  const [code] = (await once(child, "close")) as [number | null];
  if (code !== 0) throw new Error(`s4 cost, ${mode}: the process ended with ${code ?? "a signal"}`);
  return JSON.parse(text) as Cost;
}

/** What the child process does: the part once at a small length, so that the code is compiled, then at the length in question. */
export async function s4CostChild(mode: string | undefined, backendName: string): Promise<void> {
  const [part, size] = (mode ?? "").split(":");
  const length = Number(size);
  if (!s4Parts.includes(part as Part) || !(length >= 1))
    throw new InvalidArgumentError(`s4-cost-child: there is no part ${String(mode)}`);
  const backend = await openBackend(backendName);
  for (let i = 0; i < 5; i++) await runPart(backend, part as Part, 1000);
  const before = process.resourceUsage().maxRSS * 1024;
  const times = await runPart(backend, part as Part, length);
  const bytes = process.resourceUsage().maxRSS * 1024 - before;
  process.stdout.write(JSON.stringify({ ...times, bytes } satisfies Cost));
}

async function runPart(backend: Backend, part: Part, length: number): Promise<Omit<Cost, "bytes">> {
  const config = resolveLayerConfig({ dModel: HEADS, dState: STATE, mode: part === "S4 kernel" ? "dplr" : "diag" });
  using module = new S4Convolution(config).initialise(backend, new Rng(1));
  // As if C had been truncated there: random numbers are as good as others.
  module.kernel.kernelLength = part === "S4 kernel" ? length : 0;
  using x = randomNormal(backend, [1, part === "convolution" ? length : 1, HEADS], new Rng(2));
  await backend.synchronize();
  const [start, used] = [performance.now(), process.cpuUsage()];
  using y = scope(() =>
    part === "convolution" ? module.forward(x, { mode: "convolution" }).y : module.kernel.kernel(length),
  );
  await backend.synchronize();
  const { user, system } = process.cpuUsage(used);
  const times = { milliseconds: performance.now() - start, processorMilliseconds: (user + system) / 1000 };
  // Only what was computed counts.
  const last = (await y.data()).at(-1)!;
  if (!Number.isFinite(last)) throw new Error(`s4 cost: ${part} of ${length} is not finite`);
  return times;
}
