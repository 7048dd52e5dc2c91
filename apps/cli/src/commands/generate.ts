import { type Backend, InvalidArgumentError } from "@mamba-ts/backend";
import { generate } from "@mamba-ts/generate";
import type { TextTokenizer } from "@mamba-ts/mamba/load";
import type { TextModel } from "../lib/family.js";
import { openModel } from "../lib/model.js";
import { namingWeights } from "../lib/non-finite.js";
import type { Output } from "../lib/output.js";
import type { WeightDType } from "../lib/weight-dtypes.js";

export interface GenerateCommandOptions {
  readonly model: string;
  readonly dtype?: WeightDType;
  readonly prompt?: string;
  readonly promptTokens?: number[];
  readonly maxTokens: number;
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly repetitionPenalty: number;
  readonly seed: number;
  readonly stop: string[];
}

export async function generateText(
  options: GenerateCommandOptions,
  { backend, output, signal }: { backend: Backend; output: Output; signal: AbortSignal },
): Promise<void> {
  if ((options.prompt === undefined) === (options.promptTokens === undefined))
    throw new InvalidArgumentError("generate: give either --prompt or --prompt-tokens");
  const { model, tokenizer } = await openModel(options.model, backend, { output, signal }, options.dtype);
  try {
    await namingWeights(model, () => stream(options, model, tokenizer, { backend, output, signal }));
  } finally {
    model.dispose();
  }
}

async function stream(
  options: GenerateCommandOptions,
  model: TextModel,
  tokenizer: TextTokenizer,
  { backend, output, signal }: { backend: Backend; output: Output; signal: AbortSignal },
): Promise<void> {
  const prompt = options.promptTokens ?? (options.prompt as string);
  const promptIds = typeof prompt === "string" ? Array.from(tokenizer.encode(prompt)) : prompt;
  const start = performance.now();
  const tokens: number[] = [];
  const logprobs: number[] = [];
  let text = "";
  if (!output.json && typeof prompt === "string") process.stdout.write(prompt);
  const { dtype: _ofWeights, ...drawing } = options;
  const steps = generate(model, tokenizer, promptIds, {
    ...drawing,
    signal,
    onPrefill: (done, total) => total > 1024 && output.progress(`reading ${done}/${total} tokens`),
  });
  let reason: string | undefined;
  for (;;) {
    const { done, value } = await steps.next();
    if (done === true) {
      reason = value;
      break;
    }
    tokens.push(value.id);
    logprobs.push(value.logprob);
    text += value.text;
    if (!output.json)
      process.stdout.write(
        options.promptTokens === undefined ? value.text : `${tokens.length === 1 ? "" : ","}${value.id}`,
      );
  }
  const seconds = (performance.now() - start) / 1000;
  const rate = tokens.length / seconds;
  if (output.json)
    output.result("", {
      prompt: promptIds,
      tokens,
      text,
      logprobs,
      reason,
      seconds,
      tokensPerSecond: rate,
      backend: backend.name,
    });
  else {
    process.stdout.write("\n");
    output.note(
      `${tokens.length} tokens in ${seconds.toFixed(2)} s, ${rate.toFixed(1)} per second, backend ${backend.name} (${backend.device})`,
    );
  }
}
