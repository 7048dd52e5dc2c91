import { existsSync } from "node:fs";
import { appendFile, mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { InvalidArgumentError } from "@mamba-ts/backend";
import { atomicWrite, writeError } from "@mamba-ts/checkpoint/node";
import type { StepReport } from "@mamba-ts/train";
import { type LogLine, lossPlot } from "./loss-plot.js";

/** What the learning rate follows: `mamba train`'s options of these names. */
type Schedule = { readonly [K in "steps" | "lr" | "finalLr" | "warmup"]: number };

/** Makes a run's folder. Throws InvalidArgumentError where none can be, or where there is a run that is not to be resumed. */
export async function openFolder(path: string, resume: boolean): Promise<void> {
  if (!resume && existsSync(join(path, "training.safetensors")))
    throw new InvalidArgumentError(`${path} holds a training run already`, {
      hint: "--resume goes on with it; or give another folder as --out",
    });
  await mkdir(path, { recursive: true }).catch((cause: Error) => {
    throw new InvalidArgumentError(`--out ${path} cannot be made: ${cause.message}`, { cause });
  });
}

/** What is logged of a step. */
export type Logged = Pick<StepReport, "step" | "loss" | "gradientNorm" | "learningRate" | "seconds">;

/** The log of a run: one JSON object per line, the first describing the run. */
export class RunLog {
  readonly #path: string;
  constructor(readonly folder: string) {
    this.#path = join(folder, "training.jsonl");
  }

  /** Begins the log with what describes the run. */
  async start(description: object): Promise<void> {
    await atomicWrite(this.#path, `${JSON.stringify({ run: description })}\n`);
  }

  /** Adds a step. Throws CheckpointError naming the file if it cannot be written. */
  async add(
    { step, loss, gradientNorm, learningRate, seconds }: Logged,
    validation: number | undefined,
  ): Promise<void> {
    const line = {
      step,
      loss,
      gradientNorm: round(gradientNorm),
      learningRate: round(learningRate),
      seconds: round(seconds),
      ...(validation === undefined ? {} : { validation: round(validation) }),
    };
    await appendFile(this.#path, `${JSON.stringify(line)}\n`).catch((cause: unknown) => {
      throw writeError(this.#path, cause);
    });
  }

  /** Notes that the steps from here on follow another schedule. */
  async reschedule(after: number, schedule: Schedule): Promise<void> {
    const { steps, lr, finalLr, warmup } = schedule;
    await this.#write([...(await this.lines()), { rescheduled: { after, steps, lr, finalLr, warmup } }]);
  }

  async hasValidation(step: number): Promise<boolean> {
    return (await this.lines()).some((line) => line.step === step && line.validation !== undefined);
  }

  /** Adds what a step's evaluation gave, if the step was logged without. */
  async addValidation(step: number, validation: number): Promise<void> {
    await this.#write(
      (await this.lines()).map((line) => (line.step === step ? { ...line, validation: round(validation) } : line)),
    );
  }

  async #write(lines: readonly LogLine[]): Promise<void> {
    await atomicWrite(this.#path, lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
  }

  async lines(): Promise<LogLine[]> {
    const text = await readFile(this.#path, "utf8").catch(() => "");
    // A line is whole once its newline is written: what a killed process left of its last one does not count.
    const whole = text.split("\n").slice(0, -1);
    return whole.map((line) => JSON.parse(line) as LogLine);
  }

  /** Drops what was logged after the checkpoint that is resumed from. */
  async rewind(step: number): Promise<void> {
    const kept = (await this.lines()).filter((line) => line.step === undefined || line.step <= step);
    await this.#write(kept);
  }

  /** Draws the losses beside the log, as loss.svg. */
  async plot(): Promise<void> {
    await atomicWrite(join(this.folder, "loss.svg"), lossPlot(await this.lines()));
  }
}

function round(x: number): number {
  return Number(x.toPrecision(5));
}
