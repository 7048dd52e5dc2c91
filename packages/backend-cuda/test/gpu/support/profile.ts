import type { CudaBackend } from "../../../src/index.js";

/** Prints the device's time by kernel of one run, largest first. Events stand between the kernels, so that each has a little more than it takes in a row. */
export async function profile(backend: CudaBackend, run: () => void, most = 14): Promise<void> {
  const { cuda } = backend;
  await backend.synchronize();
  const marks: [string, number][] = [["start", cuda.native.record()]];
  cuda.onLaunch = (what) => marks.push([what, cuda.native.record()]);
  run();
  cuda.onLaunch = undefined;
  await backend.synchronize();
  const byName = new Map<string, { ms: number; count: number }>();
  for (let i = 1; i < marks.length; i++) {
    const [what, mark] = marks[i]!;
    const entry = byName.get(what) ?? { ms: 0, count: 0 };
    entry.ms += cuda.native.elapsed(marks[i - 1]![1], mark);
    entry.count++;
    byName.set(what, entry);
  }
  const sorted = [...byName].sort(([, a], [, b]) => b.ms - a.ms);
  const total = sorted.reduce((n, [, { ms }]) => n + ms, 0);
  console.log(`  by kernel, ${marks.length - 1} launches, ${total.toFixed(2)} ms:`);
  for (const [what, { ms, count }] of sorted.slice(0, most))
    console.log(`    ${ms.toFixed(3).padStart(9)} ms  ${String(count).padStart(5)} x ${what}`);
}
