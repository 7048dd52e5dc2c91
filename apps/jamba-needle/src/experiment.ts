import type { Backend } from "@mamba-ts/backend";
import { Jamba, type JambaConfig, type LayerType } from "@mamba-ts/jamba";
import { argMax, Rng, reshape, scope } from "@mamba-ts/tensor";
import { cosineSchedule, Trainer } from "@mamba-ts/train";
import { needle, needleBatches } from "./task.js";

const vocabSize = 256;

export const kinds = ["jamba", "mamba", "attention"] as const;
export type Kind = (typeof kinds)[number];

export interface Settings {
  readonly dModel: number;
  readonly nLayer: number;
  readonly steps: number;
  readonly batch: number;
  /** Bytes of a training sequence. */
  readonly length: number;
  readonly facts: number;
  readonly lr: number;
  readonly seed: number;
  /** What is tested: lengths, depths from 0 to 1, and needles of each. */
  readonly lengths: readonly number[];
  readonly depths: readonly number[];
  readonly needles: number;
}

/** What pages are taken from. */
export interface Texts {
  readonly train: Uint8Array;
  readonly test: Uint8Array;
}

export interface Result {
  readonly kind: Kind;
  readonly parameters: number;
  /** Mean loss of the last 20 steps, nats per answer. */
  readonly loss: number;
  /** [length][depth]: share of facts recalled. */
  readonly accuracy: readonly (readonly number[])[];
}

function layersOf(kind: Kind, nLayer: number): LayerType[] {
  // In a Jamba every second layer is attention: a published one has one of eight.
  return Array.from({ length: nLayer }, (_, i) =>
    kind === "attention" || (kind === "jamba" && i % 2 === 1) ? "attention" : "mamba",
  );
}

/** The configuration of a kind; its feed-forward layers make up for the size of its mixers, so that all have about as many parameters. */
export function configOf(kind: Kind, { dModel, nLayer }: Settings): JambaConfig {
  const make = (of: Kind, dFeedForward: number): JambaConfig => ({
    dModel,
    nLayer,
    vocabSize,
    dFeedForward,
    nHeads: 4,
    nKvHeads: 2,
    nExperts: 1,
    dState: 16,
    layerTypes: layersOf(of, nLayer),
    initStd: 0.1,
  });
  const count = (config: JambaConfig): number => new Jamba(config).parameterCount;
  const goal = count(make("jamba", 4 * dModel));
  const each = 3 * dModel * nLayer;
  return make(kind, Math.max(1, 4 * dModel + Math.round((goal - count(make(kind, 4 * dModel))) / each)));
}

export async function experiment(
  kind: Kind,
  settings: Settings,
  texts: Texts,
  backend: Backend,
  note: (line: string) => void,
): Promise<Result> {
  const { steps, lr, seed, lengths, depths } = settings;
  using model = Jamba.create(configOf(kind, settings), { backend, seed });
  using trainer = new Trainer(model, {
    data: needleBatches(texts.train, settings),
    schedule: cosineSchedule({ peak: lr, warmup: Math.max(1, steps >> 4), total: steps }),
    optimizer: { weightDecay: 0.01 },
  });
  const losses: number[] = [];
  while (trainer.step < steps) {
    const { step, loss } = await trainer.update();
    losses.push(loss);
    if (step % 50 === 0 || step === steps) note(`${kind}, step ${step}/${steps}: ${loss.toFixed(3)} nats per answer`);
  }
  const accuracy: number[][] = [];
  for (const length of lengths) {
    const row: number[] = [];
    for (const depth of depths) row.push(await recall(model, texts.test, length, depth, settings));
    accuracy.push(row);
    note(`${kind}, ${length} bytes: ${row.map((a) => `${Math.round(100 * a)}%`).join(" ")}`);
  }
  const last = losses.slice(-20);
  return {
    kind,
    parameters: model.parameterCount,
    loss: Number((last.reduce((a, b) => a + b, 0) / last.length).toFixed(4)),
    accuracy,
  };
}

/** Share of facts at one depth that the model recalls. */
export async function recall(
  model: Jamba,
  text: Uint8Array,
  length: number,
  depth: number,
  { facts, needles, seed }: Pick<Settings, "facts" | "needles" | "seed">,
): Promise<number> {
  // Other needles than in training.
  const rng = new Rng(seed + 1_000_003, 2 ** 24 * Math.round(1000 * depth) + length * 4096);
  const all = Array.from({ length: needles }, () => needle(text, { length, depth, facts }, rng));
  // So many at a time that long texts take no more memory than short ones.
  const batch = Math.max(1, Math.floor(8192 / length));
  let right = 0;
  for (let at = 0; at < needles; at += batch) {
    const part = all.slice(at, at + batch);
    const best = scope(() => {
      const rows = part.map(({ tokens }) => tokens);
      const { logits } = model.forward(rows, { logits: "last" });
      return argMax(reshape(logits!, [part.length, vocabSize]), 1);
    });
    const said = await best.data();
    best.dispose();
    right += part.filter(({ answer }, i) => said[i] === answer).length;
  }
  return right / needles;
}
