import type { Backend } from "@mamba-ts/backend";
import { relativeError } from "@mamba-ts/backend-testing";
import { type ForwardOptions, Mamba, type MambaConfig, type MambaState } from "@mamba-ts/mamba";
import { fromHost, Rng, scope, tensorsSymbol } from "@mamba-ts/tensor";
import * as fc from "fast-check";
import { expect } from "vitest";

export const vocabSize = 11;

/** Every variant of the architecture, small: dInner 16, dtRank 1. */
export const configs: fc.Arbitrary<MambaConfig> = fc.record({
  dModel: fc.constant(8),
  nLayer: fc.constant(2),
  dState: fc.constant(3),
  dConv: fc.constant(4),
  vocabSize: fc.constant(vocabSize),
  norm: fc.constantFrom("rms" as const, "layer" as const),
  tieEmbeddings: fc.boolean(),
  innerNorm: fc.constantFrom("none" as const, "plain" as const),
  bias: fc.boolean(),
  convBias: fc.boolean(),
});

export const tokens = (minLength: number, maxLength: number): fc.Arbitrary<number[]> =>
  fc.array(fc.integer({ min: 0, max: vocabSize - 1 }), { minLength, maxLength });

/**
 * A model whose every parameter is far from its initial value: with fresh weights delta is so small that a state which was lost or
 * mixed up would hardly show.
 */
export function perturbed(config: MambaConfig, backend: Backend, dtype: "float32" | "float64" = "float32"): Mamba {
  const model = Mamba.create(config, { backend, seed: 3, dtype });
  const rng = new Rng(4);
  const centre = (name: string): number =>
    name.endsWith("dt_proj.bias") ? -1 : /norm.*weight$|A_log$|mixer\.D$/.test(name) ? 0.5 : 0;
  for (const [name, p] of model.namedParameters()) {
    const values = rng.normal(p.size).map((z) => centre(name) + (name.includes("embed") ? 1 : 0.4) * z);
    p.value = fromHost(backend, values, p.shape, dtype);
  }
  return model;
}

/** What a call of `forward` computed, on the host. */
export interface Seen {
  /** logits[row][position] is [vocabSize] */
  readonly logits: readonly (readonly Float64Array[])[];
  /** state[row][tensor] */
  readonly state: readonly (readonly Float64Array[])[];
  readonly segmentStates: readonly {
    readonly row: number;
    readonly id: number;
    readonly state: readonly Float64Array[];
  }[];
}

export async function stateRows(state: MambaState): Promise<Float64Array[][]> {
  const all = await Promise.all(state[tensorsSymbol]().map(async (t) => Float64Array.from(await t.data())));
  return Array.from({ length: state.batch }, (_, row) =>
    all.map((data) => {
      const size = data.length / state.batch;
      return data.slice(row * size, (row + 1) * size);
    }),
  );
}

/** Runs the model, and hands the new state to the caller beside what was seen. */
export async function runOn(
  model: Mamba,
  rows: readonly (readonly number[])[],
  options: ForwardOptions = {},
): Promise<Seen & { readonly next: MambaState }> {
  const { logits, state, segmentStates } = scope(() => {
    const result = model.forward(rows, options);
    return { logits: result.logits!, state: result.state, segmentStates: result.segmentStates ?? [] };
  });
  const data = Float64Array.from(await logits.data());
  logits.dispose();
  const length = rows[0]!.length;
  const seen = {
    logits: rows.map((_, b) =>
      Array.from({ length }, (__, t) => data.slice((b * length + t) * vocabSize, (b * length + t + 1) * vocabSize)),
    ),
    state: await stateRows(state),
    segmentStates: await Promise.all(
      segmentStates.map(async (s) => ({ row: s.row, id: s.id, state: (await stateRows(s.state))[0]! })),
    ),
  };
  for (const s of segmentStates) s.state.dispose();
  return { ...seen, next: state };
}

/** `runOn` for callers that do not go on from the state. */
export async function see(
  model: Mamba,
  rows: readonly (readonly number[])[],
  options: ForwardOptions = {},
): Promise<Seen> {
  const { next, ...seen } = await runOn(model, rows, options);
  if (next !== options.state) next.dispose();
  return seen;
}

/** Runs rows in consecutive chunks of these sizes (the last takes the rest), handing the state on. */
export async function seeInChunks(
  model: Mamba,
  rows: readonly (readonly number[])[],
  sizes: readonly number[],
  segments?: readonly (readonly number[])[],
): Promise<Seen> {
  const length = rows[0]!.length;
  const logits: Float64Array[][] = rows.map(() => []);
  let state: MambaState | undefined;
  let final: Seen["state"] = [];
  for (let at = 0, i = 0; at < length; i++) {
    const end = Math.min(length, at + (sizes[i] ?? length));
    const cut = (all: readonly (readonly number[])[]): number[][] => all.map((row) => row.slice(at, end));
    const before: MambaState | undefined = state;
    const step = await runOn(model, cut(rows), {
      state: before,
      segments: segments === undefined ? undefined : cut(segments),
    });
    step.logits.forEach((row, b) => {
      logits[b]!.push(...row);
    });
    before?.dispose();
    state = step.next;
    final = step.state;
    at = end;
  }
  state?.dispose();
  return { logits, state: final, segmentStates: [] };
}

const flat = (rows: readonly ArrayLike<number>[]): number[] => rows.flatMap((row) => Array.from(row));

/** Both agree to 1e-5 of the norm. */
export function expectClose(got: readonly ArrayLike<number>[] | undefined, want: readonly ArrayLike<number>[]): void {
  expect(relativeError(flat(got ?? []), flat(want))).toBeLessThan(1e-5);
}

export function expectSame(got: Pick<Seen, "logits" | "state">, want: Pick<Seen, "logits" | "state">): void {
  want.logits.forEach((row, b) => {
    expectClose(got.logits[b], row);
  });
  want.state.forEach((row, b) => {
    row.forEach((t, i) => {
      expectClose([got.state[b]![i]!], [t]);
    });
  });
}
