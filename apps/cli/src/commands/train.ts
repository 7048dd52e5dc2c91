import { existsSync } from "node:fs";
import { join } from "node:path";
import { type Backend, UnsupportedError } from "@mamba-ts/backend";
import type { ByteSource } from "@mamba-ts/byte-io";
import { atomicWrite, saveSafetensors } from "@mamba-ts/checkpoint/node";
import {
  byteTokens,
  contiguousWindows,
  cosineSchedule,
  evaluate,
  randomWindows,
  type StepReport,
  Trainer,
} from "@mamba-ts/train";
import { resumeTraining, saveTraining } from "@mamba-ts/train/node";
import type { TextModel, TextState } from "../lib/family.js";
import { fingerprintOf, hashOf, sameButSchedule } from "../lib/fingerprint.js";
import { type NewModel, type NewModelOptions, newModel } from "../lib/new-model.js";
import { count, duration, type Output } from "../lib/output.js";
import { openFolder, RunLog } from "../lib/run-log.js";
import { openTexts } from "../lib/text-files.js";

export interface TrainOptions extends NewModelOptions {
  readonly data: readonly string[];
  readonly except: readonly string[];
  readonly valid?: string;
  readonly out: string;
  readonly steps: number;
  readonly batch: number;
  readonly length: number;
  readonly accumulate: number;
  readonly lr: number;
  readonly finalLr: number;
  readonly warmup: number;
  readonly weightDecay: number;
  readonly clip: number;
  readonly carry: boolean;
  readonly recompute?: boolean | "all" | "cheap";
  readonly dtype?: "float32" | "bf16";
  readonly evalEvery: number;
  readonly evalBytes: number;
  readonly saveEvery: number;
  readonly resume: boolean;
  /** Resume under another schedule. */
  readonly reschedule?: boolean;
  /** Save and end after this step, as if interrupted. */
  readonly stopAfter?: number;
}

interface Context {
  readonly backend: Backend;
  readonly output: Output;
  readonly signal: AbortSignal;
}

export async function train(options: TrainOptions, context: Context): Promise<void> {
  if (options.arch === "vision-mamba") {
    const { trainImages } = await import("./train-images.js");
    return trainImages(options, context);
  }
  const opened: ByteSource[] = [];
  const open = async (paths: readonly string[], except?: readonly string[]): Promise<ByteSource> => {
    const source = await openTexts(paths, except);
    opened.push(source);
    return source;
  };
  try {
    const text = await open(options.data, options.except);
    await trainOn(text, options.valid === undefined ? undefined : await open([options.valid]), options, context);
  } finally {
    for (const source of opened) await source.close();
  }
}

async function trainOn(
  text: ByteSource,
  valid: ByteSource | undefined,
  options: TrainOptions,
  { backend, output, signal }: Context,
): Promise<void> {
  const { dtype = "float32" } = options;
  if (!backend.dtypes.has(dtype))
    throw new UnsupportedError(`train: backend ${backend.name} has no ${dtype}`, {
      hint: `it has ${[...backend.dtypes].join(", ")}`,
    });
  const made = await newModel(options, backend);
  const { model, config } = made;
  const windows = { batch: options.batch, length: options.length, seed: options.seed };
  const data = options.carry ? contiguousWindows(byteTokens(text), windows) : randomWindows(byteTokens(text), windows);
  const schedule = cosineSchedule({
    peak: options.lr,
    final: options.finalLr,
    warmup: options.warmup,
    total: options.steps,
  });
  const trainer = new Trainer<TextState>(model, {
    data,
    schedule,
    optimizer: { weightDecay: options.weightDecay },
    clip: options.clip,
    accumulate: options.accumulate,
    carryState: options.carry,
    recompute: options.recompute === "all" ? true : (options.recompute ?? false),
    dtype,
  });
  try {
    const fingerprint = fingerprintOf(options, config, await hashOf(text));
    const log = new RunLog(options.out);
    const isEvaluated = (step: number): boolean =>
      valid !== undefined && step > 0 && (step % options.evalEvery === 0 || step === options.steps);
    const checkpoint = join(options.out, "training.safetensors");
    await openFolder(options.out, options.resume);
    if (options.resume && existsSync(checkpoint)) {
      const sameRun = (saved: string) => sameButSchedule(saved, fingerprint);
      await resumeTraining(checkpoint, trainer, fingerprint, options.reschedule === true ? { sameRun } : {});
      await log.rewind(trainer.step);
      if (options.reschedule === true) await log.reschedule(trainer.step, options);
      output.note(`resumed after step ${trainer.step}`);
      // The run may have been stopped between a step and its evaluation.
      if (isEvaluated(trainer.step) && !(await log.hasValidation(trainer.step))) {
        await log.addValidation(trainer.step, await validate(model, valid!, options.evalBytes, signal));
        await log.plot();
      }
    } else
      await log.start({
        fingerprint,
        parameters: model.parameterCount,
        bytes: text.size,
        backend: backend.name,
        device: backend.device,
      });
    output.note(`${count(model.parameterCount)} parameters, ${count(text.size)} bytes of text, ${backend.device}`);

    const save = async (): Promise<void> => {
      await saveTraining(checkpoint, trainer, fingerprint);
      await saveModel(options.out, made);
      await log.plot();
    };
    const began = performance.now();
    const first = trainer.step;
    try {
      const end = Math.min(options.steps, options.stopAfter ?? Number.POSITIVE_INFINITY);
      while (trainer.step < end) {
        const report = await trainer.update(signal);
        const isLast = report.step === options.steps;
        let validation: number | undefined;
        try {
          if (isEvaluated(report.step)) validation = await validate(model, valid!, options.evalBytes, signal);
        } finally {
          await log.add(report, validation);
        }
        show(output, report, validation, options.steps, (performance.now() - began) / 1000 / (report.step - first));
        if (report.step % options.saveEvery === 0 && !isLast) await save();
      }
    } finally {
      // Interrupted or failed, what has been learnt is kept; resuming goes on to the same numbers.
      if (trainer.step > first || (signal.aborted && !existsSync(checkpoint))) await save();
    }
    output.result(`saved to ${options.out}`, { out: options.out, step: trainer.step });
  } finally {
    trainer.dispose();
    model.dispose();
  }
}

async function validate(model: TextModel, valid: ByteSource, limit: number, signal: AbortSignal): Promise<number> {
  const options = { limit: limit === 0 ? valid.size : limit, signal };
  return (await evaluate(model, byteTokens(valid), options)).bitsPerByte;
}

async function saveModel(folder: string, { tensors, configText }: NewModel): Promise<void> {
  await saveSafetensors(join(folder, "model.safetensors"), tensors(), { metadata: { format: "pt" } });
  await atomicWrite(join(folder, "config.json"), configText());
}

function show(
  output: Output,
  report: StepReport,
  validation: number | undefined,
  steps: number,
  secondsPerStep: number,
): void {
  const { step, loss, bitsPerByte, tokens, seconds, gradientNorm, learningRate } = report;
  const line = `step ${step}/${steps}  loss ${loss.toFixed(4)}  ${bitsPerByte.toFixed(3)} bits/byte  |g| ${gradientNorm.toFixed(2)}  lr ${learningRate.toExponential(1)}  ${count(Math.round(tokens / seconds))} bytes/s  ${duration((steps - step) * secondsPerStep)} left`;
  if (output.json) output.result("", { ...report, ...(validation === undefined ? {} : { validation }) });
  else if (validation !== undefined) output.note(`${line}  held out ${validation.toFixed(3)} bits/byte`);
  else output.progress(line);
}
