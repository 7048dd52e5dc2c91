import { appendFile } from "node:fs/promises";
import { join } from "node:path";
import { type Backend, NonFiniteError, UnsupportedError } from "@mamba-ts/backend";
import { atomicWrite, saveSafetensors } from "@mamba-ts/checkpoint/node";
import { fromHost, Rng, scope, valueAndGrad } from "@mamba-ts/tensor";
import { AdamW, cosineSchedule, squaredNorm } from "@mamba-ts/train";
import { classificationLoss, VisionMamba, type VisionMambaConfig } from "@mamba-ts/vision-mamba";
import { toVimConfig, visionMambaTensors } from "@mamba-ts/vision-mamba/load";
import { type LabelledImages, pick, readImages } from "../lib/image-files.js";
import { readConfig } from "../lib/new-model.js";
import { count, type Output } from "../lib/output.js";
import { makeFolder } from "../lib/run-log.js";
import type { TrainOptions } from "./train.js";

/** Trains a Vision Mamba on the images of safetensors files. Throws UnsupportedError for what only text has: resuming, carried states. */
export async function trainImages(
  options: TrainOptions,
  { backend, output, signal }: { backend: Backend; output: Output; signal: AbortSignal },
): Promise<void> {
  for (const name of ["resume", "carry", "recompute"] as const)
    if (options[name]) throw new UnsupportedError(`train: --${name} is not there for images`);
  if (options.accumulate !== 1) throw new UnsupportedError("train: --accumulate is not there for images");
  const { dModel, nLayer, dState, steps, batch, seed, out } = options;
  const images = await readImages(options.data[0]!, backend);
  const valid = options.valid === undefined ? undefined : await readImages(options.valid, backend);
  const [total, channels, height, width] = images.shape;
  const nClasses = 1 + images.labels.reduce((a, b) => Math.max(a, b), 0);
  const patchSize = Math.min(height, width) > 64 ? 16 : 4;
  const extra = options.config === undefined ? {} : await readConfig(options.config);
  const config: VisionMambaConfig = {
    imageSize: [height, width],
    channels,
    nClasses,
    patchSize,
    dModel,
    nLayer,
    dState,
    ...extra,
  };
  using model = VisionMamba.create(config, { backend, seed });
  using optimizer = new AdamW(model, { weightDecay: options.weightDecay });
  const schedule = cosineSchedule({ peak: options.lr, final: options.finalLr, warmup: options.warmup, total: steps });
  await makeFolder(out);
  const log = join(out, "training.jsonl");
  await atomicWrite(
    log,
    `${JSON.stringify({ run: { config, images: total, steps, batch, seed, backend: backend.name } })}\n`,
  );
  output.note(
    `${count(model.parameterCount)} parameters, ${count(total)} images of ${nClasses} classes, ${backend.device}`,
  );
  try {
    while (optimizer.step < steps) {
      signal.throwIfAborted();
      const rng = new Rng(seed, optimizer.step * (nLayer + 2));
      const part = pick(images, Array.from(rng.integers(batch, total)));
      const { value, gradients } = scope(() => {
        const { x, y } = upload(part, backend);
        return valueAndGrad(
          () => ({ loss: classificationLoss(model.forward(x, { train: true, rng }).logits, y) }),
          optimizer.parameters.map((p) => p.value),
        );
      });
      const squares = squaredNorm(gradients);
      try {
        const [loss, norm] = [await value.loss.item(), Math.sqrt(await squares.item())];
        if (!Number.isFinite(loss) || !Number.isFinite(norm))
          throw new NonFiniteError(`training step ${optimizer.step + 1}: loss ${loss}, gradient norm ${norm}`);
        optimizer.update(gradients, schedule(optimizer.step), Math.min(1, options.clip / (norm + 1e-6)));
        const step = optimizer.step;
        const check = valid !== undefined && (step % options.evalEvery === 0 || step === steps);
        const validation = check ? (await score(model, valid)).accuracy : undefined;
        const line = { step, loss, gradientNorm: norm, ...(validation === undefined ? {} : { validation }) };
        await appendFile(log, `${JSON.stringify(line)}\n`);
        output.progress(`step ${step}/${steps}: loss ${loss.toFixed(4)}`);
        if (output.json) output.result("", line);
      } finally {
        for (const t of [value.loss, squares, ...gradients]) t.dispose();
      }
    }
  } finally {
    // Interrupted or failed, what has been learnt is kept.
    await saveSafetensors(join(out, "model.safetensors"), visionMambaTensors(model), { metadata: { format: "pt" } });
    await atomicWrite(join(out, "config.json"), `${JSON.stringify(toVimConfig(model.config), null, 2)}\n`);
  }
  output.result(`saved to ${out}`, { out, step: optimizer.step });
}

function upload({ pixels, shape, labels }: LabelledImages, backend: Backend) {
  return { x: fromHost(backend, pixels, shape, "float32"), y: fromHost(backend, labels, [labels.length], "int32") };
}

/** Share of images whose class is said rightly, and the mean cross-entropy in nats. */
export async function score(
  model: VisionMamba,
  images: LabelledImages,
  batch = 64,
): Promise<{ readonly accuracy: number; readonly loss: number; readonly images: number }> {
  const total = images.labels.length;
  let [right, nats] = [0, 0];
  for (let at = 0; at < total; at += batch) {
    const part = pick(
      images,
      Array.from({ length: Math.min(batch, total - at) }, (_, i) => at + i),
    );
    const result = scope(() => {
      const { x, y } = upload(part, model.backend);
      const { logits } = model.forward(x);
      return { logits, loss: classificationLoss(logits, y) };
    });
    const scores = await result.logits.data();
    const classes = result.logits.shape[1]!;
    nats += (await result.loss.item()) * part.labels.length;
    result.logits.dispose();
    result.loss.dispose();
    for (const [i, label] of part.labels.entries()) {
      const row = scores.subarray(i * classes, (i + 1) * classes);
      if (row.indexOf(Math.max(...row)) === label) right++;
    }
  }
  return { accuracy: right / total, loss: nats / total, images: total };
}
