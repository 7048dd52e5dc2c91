import { existsSync } from "node:fs";
import { join } from "node:path";
import { type Backend, UnsupportedError } from "@mamba-ts/backend";
import { atomicWrite, saveSafetensors } from "@mamba-ts/checkpoint/node";
import { fromHost, Rng, scope } from "@mamba-ts/tensor";
import { AdamW, cosineSchedule, gradientStep } from "@mamba-ts/train";
import { resumeTraining, saveTraining } from "@mamba-ts/train/node";
import { classificationLoss, VisionMamba, type VisionMambaConfig } from "@mamba-ts/vision-mamba";
import { toVimConfig, visionMambaTensors } from "@mamba-ts/vision-mamba/load";
import { fingerprintOf, hashOfImages } from "../lib/fingerprint.js";
import { expectLabels, type LabelledImages, pick, readImages } from "../lib/image-files.js";
import { readConfig } from "../lib/new-model.js";
import { count, type Output } from "../lib/output.js";
import { openFolder, RunLog } from "../lib/run-log.js";
import type { TrainOptions } from "./train.js";

/**
 * Trains a Vision Mamba on the images of safetensors files; Ctrl-C saves, --resume goes on to the same numbers.
 * Throws UnsupportedError for what only text has: carried states.
 */
export async function trainImages(
  options: TrainOptions,
  { backend, output, signal }: { backend: Backend; output: Output; signal: AbortSignal },
): Promise<void> {
  for (const name of ["carry", "recompute", "reschedule"] as const)
    if (options[name] !== undefined && options[name] !== false)
      throw new UnsupportedError(`train: --${name} is not there for images`);
  if ((options.dtype ?? "float32") !== "float32") throw new UnsupportedError("train: --dtype is not there for images");
  if (options.accumulate !== 1) throw new UnsupportedError("train: --accumulate is not there for images");
  const { dModel, nLayer, dState, steps, batch, seed, out, clip } = options;
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
  if (valid !== undefined) expectLabels(options.valid!, valid, model.config.nClasses);
  using optimizer = new AdamW(model, { weightDecay: options.weightDecay });
  const schedule = cosineSchedule({ peak: options.lr, final: options.finalLr, warmup: options.warmup, total: steps });
  const fingerprint = fingerprintOf(options, config, hashOfImages(images));
  const checkpoint = join(out, "training.safetensors");
  const log = new RunLog(out);
  await openFolder(out, options.resume);
  if (options.resume && existsSync(checkpoint)) {
    await resumeTraining(checkpoint, { optimizer }, fingerprint);
    await log.rewind(optimizer.step);
    output.note(`resumed after step ${optimizer.step}`);
  } else await log.start({ fingerprint, images: total, backend: backend.name, device: backend.device });
  output.note(
    `${count(model.parameterCount)} parameters, ${count(total)} images of ${nClasses} classes, ${backend.device}`,
  );
  const save = async (): Promise<void> => {
    await saveTraining(checkpoint, { optimizer }, fingerprint);
    await saveSafetensors(join(out, "model.safetensors"), visionMambaTensors(model), { metadata: { format: "pt" } });
    await atomicWrite(
      join(out, "config.json"),
      `${JSON.stringify(toVimConfig(model.config), null, 2)}
`,
    );
  };
  const first = optimizer.step;
  try {
    const end = Math.min(steps, options.stopAfter ?? steps);
    while (optimizer.step < end) {
      signal.throwIfAborted();
      const began = performance.now();
      // Drawn by the step: what a resumed run draws is the same.
      const rng = new Rng(seed, optimizer.step * (nLayer + 2));
      const part = pick(images, Array.from(rng.integers(batch, total)));
      const learningRate = schedule(optimizer.step);
      const { loss, gradientNorm } = await gradientStep(
        optimizer,
        () => {
          const { x, y } = upload(part, backend);
          return classificationLoss(model.forward(x, { train: true, rng }).logits, y);
        },
        { learningRate, clip },
      );
      const { step } = optimizer;
      const isEvaluated = valid !== undefined && (step % options.evalEvery === 0 || step === steps);
      const validation = isEvaluated ? (await score(model, valid)).accuracy : undefined;
      const report = { step, loss, gradientNorm, learningRate, seconds: (performance.now() - began) / 1000 };
      await log.add(report, validation);
      output.progress(`step ${step}/${steps}: loss ${loss.toFixed(4)}`);
      if (output.json) output.result("", { ...report, ...(validation === undefined ? {} : { validation }) });
      if (step % options.saveEvery === 0 && step < steps) await save();
    }
  } finally {
    // Interrupted or failed, what has been learnt is kept; resuming goes on to the same numbers.
    if (optimizer.step > first || (signal.aborted && !existsSync(checkpoint))) await save();
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
