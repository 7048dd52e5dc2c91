/** Checkpoints of a training run on disk: one file, written whole or not at all, that the run resumes from bit for bit. */
import { CheckpointError } from "@mamba-ts/backend";
import { readTensor, type TensorToWrite, tensorToWrite } from "@mamba-ts/checkpoint";
import { openSafetensorsFile, saveSafetensors } from "@mamba-ts/checkpoint/node";
import { keep, sameShape, type Tensor } from "@mamba-ts/tensor";
import type { CarriedState } from "./model.js";
import type { Trainer } from "./trainer.js";

const FORMAT = "mamba-ts.training.1";

/**
 * Saves weights, moments, the step and a carried state.
 * @param fingerprint - a string that names everything else the run depends on (configuration, data, seed); resuming compares it
 */
export async function saveTraining<S extends CarriedState>(
  path: string,
  trainer: Trainer<S>,
  fingerprint: string,
): Promise<void> {
  const { optimizer } = trainer;
  const tensors: TensorToWrite[] = optimizer.names.flatMap((name, i) => [
    tensorToWrite(`weight.${name}`, optimizer.parameters[i]!.value),
    tensorToWrite(`m.${name}`, optimizer.m[i]!),
    tensorToWrite(`v.${name}`, optimizer.v[i]!),
  ]);
  const state = await trainer.carried?.save();
  if (state !== undefined) tensors.push({ name: "carried", dtype: "U8", shape: [state.length], bytes: () => state });
  await saveSafetensors(path, tensors, { metadata: { format: FORMAT, step: String(trainer.step), fingerprint } });
}

/** Brings a trainer to where `saveTraining` left it. Throws CheckpointError, and changes nothing, if the file does not belong to this run. */
export async function resumeTraining<S extends CarriedState>(
  path: string,
  trainer: Trainer<S>,
  fingerprint: string,
): Promise<void> {
  const source = await openSafetensorsFile(path);
  try {
    const { format, step, fingerprint: saved } = source.metadata;
    if (format !== FORMAT || !/^\d+$/.test(step ?? "")) throw new CheckpointError(`${path} is no training checkpoint`);
    if (saved !== fingerprint)
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
      const carried = source.has("carried")
        ? await trainer.model.restoreState(await source.bytes("carried"))
        : undefined;
      for (const [i, [, target]] of targets.entries()) target.assign(read[i]!);
      trainer.carried?.[Symbol.dispose]();
      trainer.carried = carried;
      optimizer.step = Number(step);
    } finally {
      for (const t of read) t.dispose();
    }
  } finally {
    await source.close();
  }
}
