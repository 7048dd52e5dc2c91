import type { Backend } from "@mamba-ts/backend";
import { Jamba, type JambaConfig, type LayerType } from "@mamba-ts/jamba";
import { argMax, Rng, reshape, scope } from "@mamba-ts/tensor";
import { cosineSchedule, Trainer } from "@mamba-ts/train";
import { needle, needleBatches, vocabSize } from "./task.js";

export const kinds = ["jamba", "mamba", "attention"] as const;
export type Kind = (typeof kinds)[number];

export interface Settings {
  readonly dModel: number;
  readonly nLayer: number;
  readonly steps: number;
  readonly batch: number;
  /** Tokens of a training sequence. */
  readonly length: number;
  readonly facts: number;
  readonly lr: number;
  readonly seed: number;
  /** What is tested: lengths, depths from 0 to 1, and needles of each. */
  readonly lengths: readonly number[];
  readonly depths: readonly number[];
  readonly needles: number;
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
  backend: Backend,
  note: (line: string) => void,
): Promise<Result> {
  const { steps, lr, seed, lengths, depths } = settings;
  using model = Jamba.create(configOf(kind, settings), { backend, seed });
  using trainer = new Trainer(model, {
    data: needleBatches(settings),
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
    for (const depth of depths) row.push(await recall(model, length, depth, settings));
    accuracy.push(row);
    note(`${kind}, ${length} tokens: ${row.map((a) => `${Math.round(100 * a)}%`).join(" ")}`);
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
  length: number,
  depth: number,
  { facts, needles, seed }: Pick<Settings, "facts" | "needles" | "seed">,
): Promise<number> {
  // Other needles than in training.
  const rng = new Rng(seed + 1_000_003, Math.round(1e6 * depth) + length * 4096);
  const all = Array.from({ length: needles }, () => needle(length, depth, facts, rng));
  const best = scope(() => {
    const { logits } = model.forward(
      all.map(({ tokens }) => tokens),
      { logits: "last" },
    );
    return argMax(reshape(logits!, [needles, vocabSize]), 1);
  });
  const said = await best.data();
  best.dispose();
  return all.filter(({ answer }, i) => said[i] === answer).length / needles;
}
