import type { Backend } from "@mamba-ts/backend";
import { Mamba } from "@mamba-ts/mamba";
import { loadMamba } from "@mamba-ts/mamba/load";
import { copy, Rng, scope, tensor, valueAndGrad, watchDispatch } from "@mamba-ts/tensor";
import { AdamW, languageModelLoss } from "@mamba-ts/train";
import { countDispatches, type DispatchCount, matmulRate, medianSeconds } from "../lib/measure.js";
import { bytes, count, type Output } from "../lib/output.js";

export interface BenchOptions {
  readonly model?: string;
  readonly dModel: number;
  readonly nLayer: number;
  readonly dState: number;
  readonly vocabSize: number;
  readonly batch: number;
  readonly length: number;
  readonly runs: number;
}

interface Context {
  readonly backend: Backend;
  readonly output: Output;
  readonly signal: AbortSignal;
}

/** One kind of work: how fast it is, how fast this device could make it, and what ran fused. */
interface Report {
  readonly what: "decode" | "prefill" | "training step";
  readonly seconds: number;
  readonly tokensPerSecond: number;
  /** The least seconds that the limit allows, and the part of `seconds` that is. */
  readonly bound: { readonly limit: string; readonly seconds: number; readonly fraction: number };
  readonly ops: readonly DispatchCount[];
}

/**
 * Measures decoding, prefill and training of one Mamba on one backend, each beside a bound measured in the same run: decoding must read every
 * weight once, at the rate at which a large tensor is copied; prefill and training must do their matrix products, at the rate of a product of two
 * 512 x 512 matrices. Prints of each fused op whether it ran as a kernel or as a composition.
 */
export async function bench(options: BenchOptions, context: Context): Promise<void> {
  const { backend, output, signal } = context;
  const { batch, length, runs, dModel, nLayer, dState, vocabSize } = options;
  const model =
    options.model === undefined
      ? Mamba.create({ dModel, nLayer, dState, vocabSize }, { backend, seed: 1 })
      : (await loadMamba(options.model, { backend, signal })).model;
  using state = model.createState(1);
  using optimizer = new AdamW(model);
  try {
    const { config } = model;
    // Multiply-adds of the matrices per token: one per weight, but that an embedding is only looked up.
    const perToken = model.parameterCount - (config.tieEmbeddings ? 0 : config.vocabSize * config.dModel);
    const rng = new Rng(1);
    const rows = Array.from({ length: batch }, () => Int32Array.from(rng.integers(length + 1, config.vocabSize)));
    const weights = optimizer.parameters.map((p) => p.value);
    const work = {
      decode: () => void model.forward([[65 % config.vocabSize]], { state, into: state, logits: "last" }),
      prefill: () =>
        void model.forward(
          rows.map((row) => row.subarray(0, length)),
          { logits: "last" },
        ),
      "training step": () => {
        const { gradients } = valueAndGrad(() => ({ loss: languageModelLoss(model, { tokens: rows }).loss }), weights);
        optimizer.update(gradients, 0);
      },
    };
    output.note("measuring the limits of the device");
    const weightBytes = perToken * 4;
    const [copied, product] = [await copyRate(backend, runs, signal), await matmulRate(backend, runs, signal)];
    const reading = {
      limit: `reading ${bytes(weightBytes)} of weights at ${bytes(copied)}/s`,
      seconds: weightBytes / copied,
    };
    const multiplying = (n: number) => ({
      limit: `${count(n)} multiply-adds at ${(product / 1e9).toFixed(2)} G/s`,
      seconds: n / product,
    });
    const reports: Report[] = [];
    for (const [what, tokens, least] of [
      ["decode", 1, reading],
      ["prefill", batch * length, multiplying(perToken * batch * length)],
      ["training step", batch * length, multiplying(3 * perToken * batch * length)],
    ] as const) {
      signal.throwIfAborted();
      output.note(`measuring ${what}`);
      const run = (): void => scope(work[what]);
      const ops = countDispatches((onEvent) => watchDispatch(onEvent, run));
      const seconds = await medianSeconds(backend, run, runs, signal);
      const bound = { ...least, fraction: least.seconds / seconds };
      reports.push({ what, seconds, tokensPerSecond: tokens / seconds, bound, ops });
    }
    output.result(
      [
        `${backend.name}: ${backend.device}`,
        `${count(model.parameterCount)} parameters; batch ${batch} x ${length}; medians of ${runs} runs`,
        ...reports.flatMap(lines),
      ].join("\n"),
      { backend: backend.name, device: backend.device, parameters: model.parameterCount, batch, length, runs, reports },
    );
  } finally {
    model.dispose();
  }
}

function lines({ what, seconds, tokensPerSecond, bound, ops }: Report): string[] {
  return [
    "",
    `${what}: ${count(Math.round(tokensPerSecond))} tokens/s, ${(1000 * seconds).toPrecision(3)} ms; ${(100 * bound.fraction).toPrecision(2)} % of the bound (${bound.limit})`,
    ...ops.map(({ how, op, direction, times }) => `  ${how.padEnd(8)} ${op} ${direction}, ${times} times`),
  ];
}

/** Bytes per second, read and written, of a copy that fits no cache. */
async function copyRate(backend: Backend, runs: number, signal: AbortSignal): Promise<number> {
  const size = 2 ** 23;
  using from = tensor(backend, new Float32Array(size));
  return (2 * 4 * size) / (await medianSeconds(backend, () => scope(() => void copy(from)), runs, signal));
}
