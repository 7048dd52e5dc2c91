import type { Backend, FusedOps } from "@mamba-ts/backend";
import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { createBackend } from "@mamba-ts/backend-wasm";
import { matmul, Rng, scope } from "@mamba-ts/tensor";
import { constantSchedule, memoryTokens, randomWindows, Trainer } from "@mamba-ts/train";
import { type Context, deviceOf } from "../context.js";
import { measure, type Probe, type Work } from "../harness.js";
import { expectClose, once, uniformInput, upload } from "../inputs.js";
import { makeModel, shapeOf, trainingWork } from "../model.js";
import { exponentials } from "./wasm.js";

const [BATCH, LENGTH] = [8, 256];

/** Training of the demo's model on one thread: a fraction of what its products and exponentials imply, the time by operation, and backend-cpu's. */
export async function wasmTrainBench(context: Context): Promise<void> {
  using backend = await createBackend({ threads: 1 });
  using cpu = createCpuBackend();
  const spent = new Map<string, number>();
  const [own, timed, peer] = [trainerOn(backend), trainerOn(timedBy(spent, backend)), trainerOn(cpu)];
  const error = expectClose("train", await losses(own), await losses(peer), 1e-3);
  const work: Work = Object.fromEntries(
    Object.entries(trainingWork(makeModel(backend).config)).map(([unit, n]) => [unit, n * BATCH * LENGTH]),
  );
  context.row(
    await measure(deviceOf(backend), context.repeats, {
      bench: "wasm train",
      shape: `${shapeOf(makeModel(backend).config)}, ${BATCH} x ${LENGTH} bytes`,
      dtype: "float32",
      subject: { name: "Trainer", run: () => own.update().then(() => {}) },
      peers: [{ name: "backend-cpu", run: () => peer.update().then(() => {}) }],
      probes: [products(backend), exponentials(backend)],
      work,
      makes: { unit: "bytes", count: BATCH * LENGTH },
      error,
    }),
  );
  await timed.update();
  spent.clear();
  const start = performance.now();
  for (let i = 0; i < context.repeats.runs; i++) await timed.update();
  const total = performance.now() - start;
  const shares = [...spent].sort(([, a], [, b]) => b - a).map(([op, ms]) => [op, ms / total] as const);
  shares.push(["between operations", 1 - shares.reduce((sum, [, share]) => sum + share, 0)]);
  context.emit(
    `wasm train, time by operation: ${shares.map(([op, share]) => `${op} ${(100 * share).toFixed(1)}%`).join(", ")}`,
    { bench: "wasm train by operation", device: deviceOf(backend), shares: Object.fromEntries(shares) },
  );
}

/** Multiply-adds of a product of 512 x 512 x 512. */
function products(backend: Backend): Probe {
  const n = 512;
  const rng = new Rng(1);
  const { a, b } = upload(backend, { a: uniformInput(rng, [n, n], -1, 1), b: uniformInput(rng, [n, n], -1, 1) });
  const run = () => once(backend, () => scope(() => matmul(a, b)));
  return { name: "512 x 512 x 512", unit: "multiply-adds", work: n ** 3, run };
}

function trainerOn(backend: Backend) {
  const bytes = Int32Array.from(new Rng(1).integers(65_536, 256));
  const data = randomWindows(memoryTokens(bytes), { batch: BATCH, length: LENGTH, seed: 1 });
  return new Trainer(makeModel(backend), { data, schedule: constantSchedule(1e-3) });
}

async function losses(trainer: ReturnType<typeof trainerOn>): Promise<number[]> {
  const both: number[] = [];
  for (let i = 0; i < 2; i++) both.push((await trainer.update()).loss);
  return both;
}

/** The backend, with the milliseconds that each of its operations took added up by name: they are over when they return. */
function timedBy(spent: Map<string, number>, backend: Backend): Backend {
  const wrap = <F extends (...args: never[]) => unknown>(name: string, fn: F): F =>
    ((...args: never[]) => {
      const start = performance.now();
      const result = fn(...args);
      spent.set(name, (spent.get(name) ?? 0) + performance.now() - start);
      return result;
    }) as F;
  const fused = Object.fromEntries(
    Object.entries(backend.fused ?? {}).map(([name, op]) => [
      name,
      {
        ...op,
        forward: wrap(name, op.forward as () => unknown),
        ...("backward" in op && op.backward !== undefined
          ? { backward: wrap(`${name} backward`, op.backward as () => unknown) }
          : {}),
      },
    ]),
  ) as unknown as FusedOps;
  const primitives = Object.fromEntries(
    Object.entries(backend).flatMap(([name, value]) =>
      typeof value === "function" && !["read", "synchronize", "memory"].includes(name)
        ? [[name, wrap(name, value as () => unknown)]]
        : [],
    ),
  );
  return { ...backend, ...primitives, fused };
}
