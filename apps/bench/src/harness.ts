/**
 * The protocol of every row: the subject, its peers and the probes of the machine's limits run in turn, A B C A B C, so that whatever
 * else the machine does falls on all of them alike; medians are compared.
 */
import { type Summary, summarize } from "./statistics.js";

/** Something timed: one call is one run, and it resolves when the work is done. */
export interface Subject {
  readonly name: string;
  run(): void | Promise<void>;
}

/** A subject that does one kind of work as fast as this machine can from where the backend runs. */
export interface Probe extends Subject {
  /** What it counts, as "multiply-adds". */
  readonly unit: string;
  /** Units per run. */
  readonly work: number;
}

/** Work that cannot be avoided, by the unit of the probe that limits it. */
export type Work = { readonly [unit: string]: number };

export interface Measurement {
  readonly bench: string;
  readonly shape: string;
  readonly dtype: string;
  readonly subject: Subject;
  readonly peers: readonly Subject[];
  readonly probes: readonly Probe[];
  readonly work: Work;
  /** What one run makes, for a rate: `{ unit: "bytes", count: 64 }`. */
  readonly makes: { readonly unit: string; readonly count: number };
  /** Relative error of the result, norm of the difference over the norm, against float64. */
  readonly error: number;
}

export interface Row {
  readonly bench: string;
  readonly subject: string;
  readonly device: string;
  readonly shape: string;
  readonly dtype: string;
  readonly runs: number;
  readonly ms: number;
  readonly iqrMs: number;
  readonly rate: { readonly unit: string; readonly perSecond: number };
  readonly error: number;
  /** The least time the unavoidable work takes at the probes' rates; absent for devices without probes. */
  readonly bound?: { readonly ms: number; readonly fraction: number; readonly rates: Work } | undefined;
  readonly peers: readonly {
    readonly name: string;
    readonly ms: number;
    readonly iqrMs: number;
    /** Times the subject is faster; below 1, slower. */
    readonly ratio: number;
  }[];
}

export interface Repeats {
  readonly warmup: number;
  readonly runs: number;
}

/** Times in milliseconds per subject, in their order; all are run once before any is run again. */
export async function timesInTurn(subjects: readonly Subject[], { warmup, runs }: Repeats): Promise<Summary[]> {
  const times = subjects.map((): number[] => []);
  for (let i = 0; i < warmup + runs; i++)
    for (const [k, subject] of subjects.entries()) {
      const start = performance.now();
      await subject.run();
      const ms = performance.now() - start;
      if (i >= warmup) times[k]!.push(ms);
    }
  return times.map(summarize);
}

/** Measures one row. */
export async function measure(device: string, repeats: Repeats, m: Measurement): Promise<Row> {
  const timed = await timesInTurn([m.subject, ...m.peers, ...m.probes], repeats);
  const own = timed[0]!;
  const rates: Work = Object.fromEntries(
    m.probes.map(({ unit, work }, i) => [unit, (work / timed[1 + m.peers.length + i]!.median) * 1000]),
  );
  const boundMs = leastMs(m.work, rates);
  return {
    bench: m.bench,
    subject: m.subject.name,
    device,
    shape: m.shape,
    dtype: m.dtype,
    runs: own.runs,
    ms: own.median,
    iqrMs: own.iqr,
    rate: { unit: m.makes.unit, perSecond: (m.makes.count / own.median) * 1000 },
    error: m.error,
    bound: boundMs === undefined ? undefined : { ms: boundMs, fraction: boundMs / own.median, rates },
    peers: m.peers.map(({ name }, i) => {
      const { median, iqr } = timed[1 + i]!;
      return { name, ms: median, iqrMs: iqr, ratio: median / own.median };
    }),
  };
}

/**
 * Milliseconds that work takes at these rates (units per second), its parts one after the other; undefined if a rate is missing:
 * a bound that leaves something out would be no bound of this work.
 */
export function leastMs(work: Work, rates: Work): number | undefined {
  const parts = Object.entries(work).map(([unit, n]) => (n / (rates[unit] ?? Number.NaN)) * 1000);
  const total = parts.reduce((a, b) => a + b, 0);
  return parts.length > 0 && Number.isFinite(total) ? total : undefined;
}
