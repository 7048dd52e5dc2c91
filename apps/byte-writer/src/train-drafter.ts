import { join } from "node:path";
import type { Backend } from "@mamba-ts/backend";
import { atomicWrite, saveSafetensors } from "@mamba-ts/checkpoint/node";
import { Mamba } from "@mamba-ts/mamba";
import { mambaTensors, transformersConfigText } from "@mamba-ts/mamba/load";
import { BytePairs } from "@mamba-ts/mambabyte";
import { cosineSchedule, memoryTokens, randomWindows, Trainer } from "@mamba-ts/train";
import { trainingText } from "./books.js";

export interface DrafterTraining {
  readonly out: string;
  readonly steps: number;
  readonly vocabSize: number;
  readonly dModel: number;
  readonly nLayer: number;
  readonly batch: number;
  readonly length: number;
  readonly lr: number;
  readonly seed: number;
  /** Bytes of text to use; all by default. */
  readonly limit?: number;
}

/** Learns subwords and a small Mamba that reads them, and writes both with a record of how. */
export async function trainDrafter(
  folder: string,
  options: DrafterTraining,
  backend: Backend,
  note: (line: string) => void,
): Promise<void> {
  const { out, vocabSize, dModel, nLayer, batch, length, lr, seed } = options;
  const { text: whole, sha256 } = await trainingText(folder);
  const text = whole.subarray(0, options.limit ?? whole.length);
  const encoding = BytePairs.train(text, vocabSize);
  const ids = encoding.encode(text);
  const bytesPerToken = text.length / ids.length;
  note(`${encoding.vocabSize} subwords, ${bytesPerToken.toFixed(2)} bytes each on average`);
  const model = Mamba.create({ dModel, nLayer, dState: 8, vocabSize: encoding.vocabSize }, { backend, seed });
  const trainer = new Trainer(model, {
    data: randomWindows(memoryTokens(ids), { batch, length, seed, bytesPerToken }),
    schedule: cosineSchedule({ peak: lr, warmup: Math.min(50, options.steps >> 2), total: options.steps }),
  });
  try {
    let mean = Number.NaN;
    while (trainer.step < options.steps) {
      const { step, bitsPerByte, seconds } = await trainer.update();
      mean = Number.isNaN(mean) ? bitsPerByte : mean + 0.05 * (bitsPerByte - mean);
      if (step % 20 === 0 || step === options.steps)
        note(`step ${step}/${options.steps}: ${mean.toFixed(3)} bits per byte, ${seconds.toFixed(2)} s per step`);
    }
    await saveSafetensors(join(out, "model.safetensors"), mambaTensors(model, { dtype: "bf16" }), {
      metadata: { format: "pt" },
    });
    await atomicWrite(join(out, "config.json"), transformersConfigText(model.config, "bfloat16"));
    await atomicWrite(join(out, "subwords.json"), `${JSON.stringify(encoding)}\n`);
    const { out: _, ...settings } = options;
    const record = {
      ...settings,
      parameters: model.parameterCount,
      bytes: text.length,
      sha256,
      bitsPerByte: Number(mean.toFixed(4)),
    };
    await atomicWrite(join(out, "training.json"), `${JSON.stringify(record, null, 2)}\n`);
  } finally {
    trainer.dispose();
    model.dispose();
  }
}
