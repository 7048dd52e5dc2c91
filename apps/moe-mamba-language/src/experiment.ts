import type { Backend } from "@mamba-ts/backend";
import { MoEMamba, type MoEMambaConfig } from "@mamba-ts/moe-mamba";
import { scope } from "@mamba-ts/tensor";
import { type BatchSource, cosineSchedule, evaluate, type TokenSource, Trainer } from "@mamba-ts/train";

export interface Settings {
  readonly dModel: number;
  readonly nLayer: number;
  readonly nExperts: number;
  readonly steps: number;
  readonly batch: number;
  readonly length: number;
  readonly lr: number;
  readonly seed: number;
  /** Bytes of the held-out text that are read at the end. */
  readonly evalBytes: number;
}

/** One run: a model's losses, and where its tokens went in the end. */
export interface Run {
  readonly nExperts: number;
  readonly parameters: number;
  readonly activeParameters: number;
  /** Bits per byte of each step's batch, with the routers' penalty. */
  readonly losses: readonly number[];
  /** Of the held-out text, without capacity and penalty. */
  readonly heldOutBitsPerByte: number;
  /** [layer][expert]: shares of the held-out text's tokens. */
  readonly load: readonly (readonly number[])[];
  /** Share of choices dropped in training mode on a held-out batch. */
  readonly dropped: number;
}

/** A dense feed-forward layer is a mixture of one expert, so both models are the same code with the same active parameters. */
export async function train(
  settings: Settings,
  nExperts: number,
  data: BatchSource,
  heldOut: TokenSource,
  backend: Backend,
  note: (line: string) => void,
): Promise<Run> {
  const { dModel, nLayer, steps, lr, seed, evalBytes } = settings;
  const config: MoEMambaConfig = { dModel, nLayer, dState: 8, vocabSize: 256, nExperts, dExpert: 2 * dModel };
  using model = MoEMamba.create(config, { backend, seed });
  using trainer = new Trainer(model, {
    data,
    schedule: cosineSchedule({ peak: lr, warmup: Math.max(1, steps >> 4), total: steps }),
  });
  const losses: number[] = [];
  while (trainer.step < steps) {
    const { step, bitsPerByte } = await trainer.update();
    losses.push(Number(bitsPerByte.toFixed(4)));
    if (step % 20 === 0 || step === steps)
      note(`${nExperts} experts, step ${step}/${steps}: ${bitsPerByte.toFixed(3)} bits per byte`);
  }
  const { bitsPerByte } = await evaluate(model, heldOut, { limit: evalBytes });
  const { load, dropped } = await loads(model, await heldOut.read(0, Math.min(heldOut.size, 2048)));
  return {
    nExperts,
    parameters: model.parameterCount,
    activeParameters: model.activeParameterCount,
    losses,
    heldOutBitsPerByte: Number(bitsPerByte.toFixed(4)),
    load,
    dropped,
  };
}

async function loads(model: MoEMamba, ids: Int32Array): Promise<{ load: number[][]; dropped: number }> {
  const result = scope(() => model.forward([ids], { logits: "none", train: true, loads: true }).loads!);
  const load: number[][] = [];
  let dropped = 0;
  for (const layer of result) {
    load.push(Array.from(await layer.counts.data(), (n) => Number((n / ids.length).toFixed(4))));
    dropped += await layer.dropped.item();
    layer.counts.dispose();
    layer.dropped.dispose();
  }
  return { load, dropped: Number((dropped / ids.length / result.length).toFixed(4)) };
}
