/** Checkpoints of a training run on disk: one file, written whole or not at all, that the run resumes from bit for bit. */
import { CheckpointError } from "@mamba-ts/backend";
import { readTensor, type TensorToWrite, tensorToWrite } from "@mamba-ts/checkpoint";
import { openSafetensorsFile, saveSafetensors } from "@mamba-ts/checkpoint/node";
import { keep, sameShape, type Tensor } from "@mamba-ts/tensor";
import type { CarriedState, LanguageModel } from "./model.js";
import type { AdamW } from "./optimizer.js";

const FORMAT = "mamba-ts.training.1";

/** What a run continues from: a `Trainer`, or just the optimizer of a loop of one's own around `gradientStep`. */
export interface TrainingState<S extends CarriedState = CarriedState> {
  readonly optimizer: AdamW;
  carried?: S | undefined;
  /** Restores `carried`. */
  readonly model?: Pick<LanguageModel<S>, "restoreState">;
}

/**
 * Saves weights, moments, the step and a carried state.
 * @param fingerprint - a string that names everything else the run depends on (configuration, data, seed); resuming compares it
 * @param notes - anything the run wants back when it resumes, such as its curve
 */
export async function saveTraining<S extends CarriedState>(
  path: string,
  trainer: TrainingState<S>,
  fingerprint: string,
  notes = "",
): Promise<void> {
  const { optimizer } = trainer;
  const tensors: TensorToWrite[] = optimizer.names.flatMap((name, i) => [
    tensorToWrite(`weight.${name}`, optimizer.parameters[i]!.value),
    tensorToWrite(`m.${name}`, optimizer.m[i]!),
    tensorToWrite(`v.${name}`, optimizer.v[i]!),
  ]);
  const state = await trainer.carried?.save();
  if (state !== undefined) tensors.push({ name: "carried", dtype: "U8", shape: [state.length], bytes: () => state });
  await saveSafetensors(path, tensors, {
    metadata: { format: FORMAT, step: String(optimizer.step), fingerprint, notes },
  });
}

/**
 * Brings a run to where `saveTraining` left it.
 * @param options - sameRun: whether a checkpoint that was saved under another fingerprint may be gone on from
 * @returns the notes that were saved with it
 * @throws CheckpointError, and nothing has changed, if the file does not belong to this run
 */
export async function resumeTraining<S extends CarriedState>(
  path: string,
  trainer: TrainingState<S>,
  fingerprint: string,
  { sameRun = (saved) => saved === fingerprint }: { readonly sameRun?: (saved: string) => boolean } = {},
): Promise<string> {
  const source = await openSafetensorsFile(path);
  try {
    const { format, step, fingerprint: saved, notes = "" } = source.metadata;
    if (format !== FORMAT || !/^\d+$/.test(step ?? "")) throw new CheckpointError(`${path} is no training checkpoint`);
    if (saved === undefined || !sameRun(saved))
      throw new CheckpointError(`${path} belongs to another run:\n  saved   ${saved}\n  current ${fingerprint}`, {
        hint: "resume with the options the run was started with, or start afresh in another folder",
      });
    const { optimizer } = trainer;
    const targets = optimizer.names.flatMap((name, i) => [
      [`weight.${name}`, optimizer.parameters[i]!.value] as const,
      [`m.${name}`, optimizer.m[i]!] as const,
      [`v.${name}`, optimizer.v[i]!] as const,
    ]);
    const known = new Set([...targets.map(([name]) => name), "carried"]);
    const surplus = source.names.find((name) => !known.has(name));
    if (surplus !== undefined) throw new CheckpointError(`${path}: this model has no ${surplus}`);
    const read: Tensor[] = [];
    try {
      for (const [name, target] of targets) {
        const t = keep(await readTensor(source, name, target.backend));
        read.push(t);
        if (!sameShape(t.shape, target.shape) || t.dtype !== target.dtype)
          throw new CheckpointError(
            `${path}: ${name} is ${t.dtype} [${t.shape.join(", ")}], the model's is ${target.dtype} [${target.shape.join(", ")}]`,
          );
      }
      const hasCarried = source.has("carried");
      if (hasCarried && trainer.model === undefined)
        throw new CheckpointError(`${path} has a carried state, which this run cannot go on from`);
      const carried = hasCarried ? await trainer.model!.restoreState(await source.bytes("carried")) : undefined;
      for (const [i, [, target]] of targets.entries()) target.assign(read[i]!);
      trainer.carried?.[Symbol.dispose]();
      trainer.carried = carried;
      optimizer.step = Number(step);
      return notes;
    } finally {
      for (const t of read) t.dispose();
    }
  } finally {
    await source.close();
  }
}
