/** The bench mode: how long operations take, fused and composed, beside the least that the device's own rates allow. */
import type { Backend } from "@mamba-ts/backend";
import {
  add,
  copy,
  type DispatchEvent,
  exp,
  matmul,
  scope,
  sum,
  type Tensor,
  tensor,
  valueAndGrad,
  watchDispatch,
} from "@mamba-ts/tensor";
import { type BenchCase, benchCases } from "./bench-cases.js";
import { RandomInputs, type Tensors } from "./case.js";
import { composedOnly } from "./composed-only.js";
import { upload } from "./run-case.js";

export interface BenchRow {
  readonly op: string;
  readonly name: string;
  readonly direction: "forward" | "with gradient";
  /** Primitives are never composed. */
  readonly how: "fused" | "composed" | "primitive";
  /** Median of the runs. */
  readonly seconds: number;
  /** The least time the work takes at the rates of a copy, a matrix product and exponentials on this backend in this run. */
  readonly bound: number;
  /** How many times longer core's composition takes; undefined where no kernel ran instead of it. */
  readonly composedRatio: number | undefined;
}

export interface BenchOptions {
  readonly cases?: readonly BenchCase[];
  /** Timed runs of each; 5 by default. One more comes before them. */
  readonly runs?: number;
  readonly signal?: AbortSignal;
}

interface Rates {
  readonly bytes: number;
  readonly multiplyAdds: number;
  readonly exps: number;
}

/** Measures a backend's operations. */
export async function benchBackend(
  backend: Backend,
  { cases = benchCases, runs = 5, signal }: BenchOptions = {},
): Promise<BenchRow[]> {
  const rates = await ratesOf(backend, runs);
  const rows: BenchRow[] = [];
  for (const benchCase of cases)
    for (const direction of ["forward", "with gradient"] as const) {
      signal?.throwIfAborted();
      const own = await timeCase(benchCase, backend, direction, runs);
      const composed =
        own.how !== "fused" ? undefined : await timeCase(benchCase, composedOnly(backend), direction, runs);
      // Backwards everything is read again and a gradient of everything is written; each product has two more, each exponential one.
      const [moves, products, exponentials] = direction === "forward" ? [1, 1, 1] : [3, 3, 2];
      const bound = Math.max(
        (moves * own.bytes) / rates.bytes,
        (products * (benchCase.multiplyAdds ?? 0)) / rates.multiplyAdds,
        (exponentials * (benchCase.exps ?? 0)) / rates.exps,
      );
      const { op, name } = benchCase;
      const composedRatio = composed === undefined ? undefined : composed.seconds / own.seconds;
      rows.push({ op, name, direction, how: own.how, seconds: own.seconds, bound, composedRatio });
    }
  return rows;
}

/** The rows as a table for people. */
export function formatBench(rows: readonly BenchRow[]): string {
  return rows
    .map(({ op, name, direction, how, seconds, bound, composedRatio }) => {
      const beside = composedRatio === undefined ? "" : `, composed ${composedRatio.toFixed(1)} times that`;
      const time = `${(1000 * seconds).toFixed(3)} ms`;
      const fraction = `${((100 * bound) / seconds).toFixed(0)} % of the bound`;
      return `${op.padEnd(18)} ${direction.padEnd(13)} ${how.padEnd(9)} ${time.padStart(12)} ${fraction.padStart(18)}${beside}  (${name})`;
    })
    .join("\n");
}

interface Timed {
  readonly how: BenchRow["how"];
  readonly seconds: number;
  /** What inputs and outputs take. */
  readonly bytes: number;
}

async function timeCase(
  benchCase: BenchCase,
  backend: Backend,
  direction: BenchRow["direction"],
  runs: number,
): Promise<Timed> {
  const inputs = scope(() => upload(benchCase.inputs(new RandomInputs(1)), backend, "float32"));
  const floats = Object.values(inputs).filter((t) => t.dtype !== "int32");
  let bytes = 0;
  const run = (): void =>
    scope(() => {
      const forward = (): Tensors => {
        const outputs = benchCase.run(inputs, backend);
        bytes = 4 * (elements(inputs) + elements(outputs));
        return outputs;
      };
      if (direction === "forward") forward();
      else valueAndGrad(() => ({ loss: total(forward()) }), floats);
    });
  try {
    const events: DispatchEvent[] = [];
    watchDispatch((event) => event.op === benchCase.op && events.push(event), run);
    const how = events.length === 0 ? "primitive" : events.every((e) => e.how === "fused") ? "fused" : "composed";
    return { how, seconds: await medianSeconds(backend, run, runs), bytes };
  } finally {
    for (const t of Object.values(inputs)) t.dispose();
  }
}

const elements = (tensors: Tensors): number => Object.values(tensors).reduce((n, { size }) => n + size, 0);

const total = (outputs: Tensors): Tensor =>
  Object.values(outputs)
    .map((t) => sum(t))
    .reduce((a, b) => add(a, b));

async function ratesOf(backend: Backend, runs: number): Promise<Rates> {
  const random = new RandomInputs(2);
  const square = 512;
  const many = 2 ** 21;
  const make = (shape: readonly number[]): Tensor =>
    tensor(backend, random.uniform(shape, -2, 0).data, shape, "float32");
  const [a, b, x] = [make([square, square]), make([square, square]), make([many])];
  const time = (fn: () => Tensor): Promise<number> => medianSeconds(backend, () => fn().dispose(), runs);
  try {
    return {
      // Each element is read and written.
      bytes: (8 * many) / (await time(() => copy(x))),
      multiplyAdds: square ** 3 / (await time(() => matmul(a, b))),
      exps: many / (await time(() => exp(x))),
    };
  } finally {
    for (const t of [a, b, x]) t.dispose();
  }
}

async function medianSeconds(backend: Backend, run: () => void, runs: number): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i <= runs; i++) {
    const start = performance.now();
    run();
    await backend.synchronize();
    if (i > 0) times.push((performance.now() - start) / 1000);
  }
  times.sort((p, q) => p - q);
  return (times[(runs - 1) >> 1]! + times[runs >> 1]!) / 2;
}
