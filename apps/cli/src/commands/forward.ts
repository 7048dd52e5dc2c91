import { type Backend, InvalidArgumentError } from "@mamba-ts/backend";
import { readTensor, type TensorToWrite, tensorToWrite } from "@mamba-ts/checkpoint";
import { openCheckpoint, openSafetensorsFile, saveSafetensors } from "@mamba-ts/checkpoint/node";
import type { Mamba } from "@mamba-ts/mamba";
import { detectNaming, loadMambaFrom } from "@mamba-ts/mamba/load";
import { cast, scope, type Tensor, valueAndGrad } from "@mamba-ts/tensor";
import { languageModelLoss } from "@mamba-ts/train";
import type { Output } from "../lib/output.js";

export interface ForwardCommandOptions {
  readonly model: string;
  readonly input: string;
  readonly output: string;
  readonly gradients: boolean;
}

/** Runs a model on given tokens and writes all it computes, to be compared with another implementation. */
export async function forward(
  options: ForwardCommandOptions,
  { backend, output, signal }: { backend: Backend; output: Output; signal: AbortSignal },
): Promise<void> {
  const checkpoint = await openCheckpoint(options.model);
  const naming = detectNaming(checkpoint.source);
  const model = await loadMambaFrom(checkpoint.config, checkpoint.source, { backend, signal });
  await checkpoint.source.close();
  try {
    const rows = await readTokens(options.input, backend);
    const tensors: TensorToWrite[] = [];
    const made: Tensor[] = [];
    const put = (name: string, t: Tensor): void => {
      const wide = cast(t, "float32");
      made.push(t, wide);
      tensors.push(tensorToWrite(name, wide));
    };
    const { logits, hiddenStates } = scope(() => {
      const result = model.forward(rows, { hiddenStates: true });
      return { logits: result.logits!, hiddenStates: result.hiddenStates! };
    });
    put("logits", logits);
    for (const [i, h] of hiddenStates.entries()) put(`hidden_states.${i}`, h);
    const { loss, gradients } = await lossOf(model, rows, options.gradients);
    if (loss !== undefined) put("loss", loss);
    for (const [name, g] of gradients) put(`grad.${naming.toFile(name)}`, g);
    await saveSafetensors(options.output, tensors, { signal });
    for (const t of made) t.dispose();
    output.result(`${tensors.length} tensors written to ${options.output}`, {
      output: options.output,
      tensors: tensors.map((t) => t.name),
    });
  } finally {
    model.dispose();
  }
}

async function readTokens(path: string, backend: Backend): Promise<Int32Array[]> {
  const source = await openSafetensorsFile(path);
  try {
    const { shape } = source.info("input_ids");
    if (shape.length !== 2)
      throw new InvalidArgumentError(`${path}: input_ids is [${shape.join(", ")}], not [batch, length]`);
    const [batch, length] = shape as [number, number];
    const ids = await readTensor(source, "input_ids", backend, { dtype: "int32" });
    const flat = (await ids.data()) as Int32Array;
    ids.dispose();
    return Array.from({ length: batch }, (_, b) => flat.slice(b * length, (b + 1) * length));
  } finally {
    await source.close();
  }
}

/** The mean next-token cross-entropy, and the gradients by parameter name; a single token predicts nothing. */
async function lossOf(
  model: Mamba,
  rows: readonly Int32Array[],
  wantGradients: boolean,
): Promise<{ loss: Tensor | undefined; gradients: [string, Tensor][] }> {
  if ((rows[0]?.length ?? 0) < 2) return { loss: undefined, gradients: [] };
  const run = () => ({ loss: languageModelLoss(model, { tokens: rows }).loss });
  if (!wantGradients) return { loss: scope(run).loss, gradients: [] };
  const named = [...model.namedParameters()];
  const { value, gradients } = valueAndGrad(
    run,
    named.map(([, p]) => p.value),
  );
  return { loss: value.loss, gradients: named.map(([name], i) => [name, gradients[i]!]) };
}
