import { type Backend, InvalidArgumentError } from "@mamba-ts/backend";
import { isInteger, readTensor, type TensorToWrite, tensorToWrite } from "@mamba-ts/checkpoint";
import { openSafetensorsFile, saveSafetensors } from "@mamba-ts/checkpoint/node";
import type { Module } from "@mamba-ts/nn";
import { cast, fromHost, scope, type Tensor, valueAndGrad } from "@mamba-ts/tensor";
import { languageModelLoss } from "@mamba-ts/train";
import { classificationLoss, type VisionMamba } from "@mamba-ts/vision-mamba";
import { type Family, familyOf, type TextModel } from "../lib/family.js";
import { expectLabels, readImages } from "../lib/image-files.js";
import { vocabSizeOf, withCheckpoint } from "../lib/model.js";
import { expectFinite, namingWeights } from "../lib/non-finite.js";
import type { Output } from "../lib/output.js";

export interface ForwardCommandOptions {
  readonly model: string;
  readonly input: string;
  readonly output: string;
  readonly gradients: boolean;
}

/** Named results, and the loss's gradients by parameter. */
interface Computed {
  readonly results: readonly (readonly [string, Tensor])[];
  readonly gradients: readonly (readonly [string, Tensor])[];
}

/** Runs a model on given tokens or images and writes all it computes, to be compared with another implementation. */
export async function forward(
  options: ForwardCommandOptions,
  { backend, output, signal }: { backend: Backend; output: Output; signal: AbortSignal },
): Promise<void> {
  const { family, naming, model, compute } = await withCheckpoint(options.model, async ({ config, source }) => {
    const found = familyOf(config, source);
    const described = found.describe(config, source);
    return { family: found, naming: described.naming, ...(await prepare(found, config, source, { backend, signal })) };
  });
  const made: Tensor[] = [];
  try {
    const { results, gradients } = await compute(options);
    made.push(...results.map(([, t]) => t), ...gradients.map(([, t]) => t));
    await namingWeights(model, async () => {
      for (const [name, t] of results) await expectFinite(`forward: ${name}`, t);
      for (const [name, g] of gradients) await expectFinite(`forward: grad.${name}`, g);
    });
    signal.throwIfAborted();
    const wide = (t: Tensor): Tensor => {
      const converted = cast(t, "float32");
      if (converted !== t) made.push(converted);
      return converted;
    };
    const tensors: TensorToWrite[] = [
      ...results.map(([name, t]) => tensorToWrite(name, wide(t))),
      ...gradients.flatMap(([name, g]) =>
        family.write(name, wide(g), naming).map((t) => ({ ...t, name: `grad.${t.name}` })),
      ),
    ];
    await saveSafetensors(options.output, tensors, { signal });
    output.result(`${tensors.length} tensors written to ${options.output}`, {
      output: options.output,
      tensors: tensors.map((t) => t.name),
    });
  } finally {
    for (const t of made) t.dispose();
    model.dispose();
  }
}

async function prepare(
  family: Family,
  config: unknown,
  source: Parameters<Family["load"]>[1],
  options: { readonly backend: Backend; readonly signal: AbortSignal },
): Promise<{ readonly model: Module; compute(options: ForwardCommandOptions): Promise<Computed> }> {
  if (family.kind === "image") {
    const model = await family.load(config, source, options);
    return { model, compute: (o) => onImages(model, o) };
  }
  const model = await family.load(config, source, options);
  return { model, compute: (o) => onTokens(model, o) };
}

async function onTokens(model: TextModel, { input, gradients: wanted }: ForwardCommandOptions): Promise<Computed> {
  const rows = await readTokens(input, model.backend, vocabSizeOf(model));
  const { logits, hiddenStates, auxLoss } = scope(() => {
    const result = model.forward(rows, { hiddenStates: true, train: false });
    // The routers' loss belongs to training mode.
    const { auxLoss: aux } = model.forward(rows, { logits: "none", train: true });
    return { logits: result.logits!, hiddenStates: result.hiddenStates!, auxLoss: aux };
  });
  const results: [string, Tensor][] = [["logits", logits]];
  for (const [i, h] of hiddenStates.entries()) results.push([`hidden_states.${i}`, h]);
  if (auxLoss !== undefined) results.push(["aux_loss", auxLoss]);
  // A single token predicts nothing.
  if ((rows[0]?.length ?? 0) < 2) return { results, gradients: [] };
  const run = (): Tensor => languageModelLoss(model, { tokens: rows }, { lastToken: true }).loss;
  const { loss, gradients } = differentiate(model, run, wanted);
  return { results: [...results, ["loss", loss]], gradients };
}

async function onImages(model: VisionMamba, { input, gradients: wanted }: ForwardCommandOptions): Promise<Computed> {
  const source = await openSafetensorsFile(input);
  const read: Tensor[] = [];
  try {
    const pixels = await readTensor(source, "pixels", model.backend, { dtype: "float32" });
    read.push(pixels);
    const { logits } = model.forward(pixels);
    if (!source.has("labels")) return { results: [["logits", logits]], gradients: [] };
    const images = await readImages(input, model.backend);
    expectLabels(input, images, model.config.nClasses);
    const labels = fromHost(model.backend, images.labels, [images.labels.length], "int32");
    read.push(labels);
    const run = (): Tensor => classificationLoss(model.forward(pixels).logits, labels);
    const { loss, gradients } = differentiate(model, run, wanted);
    return {
      results: [
        ["logits", logits],
        ["loss", loss],
      ],
      gradients,
    };
  } finally {
    for (const t of read) t.dispose();
    await source.close();
  }
}

/** A loss, and its gradients by parameter if they are wanted. */
function differentiate(
  model: Module,
  run: () => Tensor,
  wanted: boolean,
): { readonly loss: Tensor; readonly gradients: readonly (readonly [string, Tensor])[] } {
  if (!wanted) return { loss: scope(run), gradients: [] };
  const named = [...model.namedParameters()];
  const { value, gradients } = valueAndGrad(
    () => ({ loss: run() }),
    named.map(([, p]) => p.value),
  );
  return { loss: value.loss, gradients: named.map(([name], i) => [name, gradients[i]!] as const) };
}

async function readTokens(path: string, backend: Backend, vocabSize: number): Promise<Int32Array[]> {
  const source = await openSafetensorsFile(path);
  try {
    const { shape, dtype } = source.info("input_ids");
    if (shape.length !== 2 || shape.includes(0))
      throw new InvalidArgumentError(
        `${path}: input_ids is [${shape.join(", ")}], not [batch, length] with a token at least`,
      );
    if (!isInteger(dtype)) throw new InvalidArgumentError(`${path}: input_ids is ${dtype}, not integers`);
    const [batch, length] = shape as [number, number];
    const ids = await readTensor(source, "input_ids", backend, { dtype: "int32" });
    const flat = (await ids.data()) as Int32Array;
    ids.dispose();
    const wrong = flat.findIndex((id) => id < 0 || id >= vocabSize);
    if (wrong >= 0)
      throw new InvalidArgumentError(
        `${path}: token ${flat[wrong]} at row ${Math.floor(wrong / length)}, position ${wrong % length} of input_ids is not in a vocabulary of ${vocabSize}`,
      );
    return Array.from({ length: batch }, (_, b) => flat.slice(b * length, (b + 1) * length));
  } finally {
    await source.close();
  }
}
