import type { Backend } from "@mamba-ts/backend";
import { Jamba, type JambaConfig, type JambaForwardOptions, type JambaState } from "@mamba-ts/jamba";
import { fromHost, Rng, scope } from "@mamba-ts/tensor";

export const vocabSize = 11;
/** Both kinds of mixer and both kinds of feed-forward layer. */
export const small: JambaConfig = {
  dModel: 8,
  nLayer: 4,
  vocabSize,
  dFeedForward: 6,
  nHeads: 4,
  nKvHeads: 2,
  attnLayerPeriod: 2,
  attnLayerOffset: 1,
  nExperts: 3,
  topK: 2,
  dState: 3,
};

/** A model whose every parameter is far from its first value, so that a state that was lost shows. */
export function perturbed(config: JambaConfig, backend: Backend, dtype: "float32" | "float64" = "float32"): Jamba {
  const model = Jamba.create(config, { backend, seed: 3, dtype });
  const rng = new Rng(4);
  const centre = (name: string): number =>
    name.endsWith("dt_proj.bias") ? -1 : /norm.*weight$|A_log$|mamba\.D$/.test(name) ? 0.5 : 0;
  for (const [name, p] of model.namedParameters()) {
    const values = rng.normal(p.size).map((z) => centre(name) + (name.includes("embed") ? 1 : 0.4) * z);
    p.value = fromHost(backend, values, p.shape, dtype);
  }
  return model;
}

/** The logits of each position of each row, and the next state, which is the caller's. */
export async function run(
  model: Jamba,
  rows: readonly (readonly number[])[],
  options: JambaForwardOptions = {},
): Promise<{ readonly logits: number[][][]; readonly state: JambaState }> {
  const { logits, state } = scope(() => {
    const result = model.forward(rows, options);
    return { logits: result.logits!, state: result.state };
  });
  const data = Array.from(await logits.data());
  const [batch, length, width] = logits.shape as [number, number, number];
  logits.dispose();
  return {
    logits: Array.from({ length: batch }, (_, b) =>
      Array.from({ length }, (__, t) => data.slice((b * length + t) * width, (b * length + t + 1) * width)),
    ),
    state,
  };
}

/** `run` without going on from the state. */
export async function see(model: Jamba, rows: readonly (readonly number[])[], options: JambaForwardOptions = {}) {
  const { logits, state } = await run(model, rows, options);
  if (state !== options.state) state.dispose();
  return logits;
}

/** In consecutive chunks of these sizes, each continuing the last; in place or as values. */
export async function seeInChunks(
  model: Jamba,
  rows: readonly (readonly number[])[],
  sizes: readonly number[],
  { segments, inPlace = false }: { segments?: readonly (readonly number[])[]; inPlace?: boolean } = {},
): Promise<number[][][]> {
  const all: number[][][] = rows.map(() => []);
  let state = model.createState(rows.length);
  let at = 0;
  for (const size of sizes) {
    const cut = (xs: readonly (readonly number[])[]) => xs.map((row) => row.slice(at, at + size));
    const before = state;
    const step = await run(model, cut(rows), {
      state: before,
      ...(inPlace ? { into: before } : {}),
      ...(segments === undefined ? {} : { segments: cut(segments) }),
    });
    state = step.state;
    if (state !== before) before.dispose();
    step.logits.forEach((row, b) => {
      all[b]!.push(...row);
    });
    at += size;
  }
  state.dispose();
  return all;
}
