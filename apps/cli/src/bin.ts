#!/usr/bin/env node
import { readFileSync } from "node:fs";
import { type Backend, InvalidArgumentError } from "@mamba-ts/backend";
import { Command, CommanderError } from "commander";
import { type BenchOptions, bench } from "./commands/bench.js";
import { type ConvertOptions, convert } from "./commands/convert.js";
import { demo } from "./commands/demo.js";
import { type EvalOptions, evalModel } from "./commands/eval.js";
import { type ForwardCommandOptions, forward } from "./commands/forward.js";
import { type GenerateCommandOptions, generateText } from "./commands/generate.js";
import { inspect } from "./commands/inspect.js";
import { type TrainOptions, train } from "./commands/train.js";
import { type BackendStatus, chooseBackend, listBackends } from "./lib/backend.js";
import { architectures } from "./lib/new-model.js";
import { choice, integer, real, tokenList } from "./lib/numbers.js";
import { bytes, createOutput, type Output, reportError } from "./lib/output.js";
import { weightDtypes } from "./lib/weight-dtypes.js";

// Asked for before the options are parsed, since what is wrong may be the options.
const wantsJson = process.argv.includes("--json");
const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as {
  version: string;
};
const program = new Command("mamba")
  .version(version)
  .description("State space models: generate, train, evaluate, inspect, convert.")
  .showHelpAfterError(!wantsJson)
  .configureOutput({
    outputError: (text, write) => {
      if (!wantsJson) write(text);
      else reportError(new InvalidArgumentError(text.trim().replace(/^error: /, "")), true);
    },
  })
  .exitOverride();

interface Context {
  readonly output: Output;
  readonly signal: AbortSignal;
  readonly backend: Backend;
}

/** Adds what every command has, runs it, and turns what happens into an exit code. */
function command<T>(
  name: string,
  description: string,
  run: (options: T, context: Context, args: string[]) => Promise<void>,
  needsBackend = true,
): Command {
  const sub = program.command(name).description(description).option("--json", "print results as JSON", false);
  if (needsBackend) sub.option("--backend <name>", "cpu, wasm, webgpu, cuda, a package, or a path to a module", "auto");
  sub.action(async () => {
    const options = sub.opts<T & { json: boolean; backend?: string }>();
    const controller = new AbortController();
    process.once("SIGINT", () => {
      controller.abort();
      // A second Ctrl-C does not wait.
      process.once("SIGINT", () => process.exit(130));
    });
    const output = createOutput(options);
    let backend: Backend | undefined;
    try {
      if (needsBackend) backend = await chooseBackend(options.backend);
      await run(options, { output, signal: controller.signal, backend: backend as Backend }, sub.args);
    } catch (error) {
      process.exitCode = reportError(error, options.json);
    } finally {
      backend?.[Symbol.dispose]();
    }
  });
  return sub;
}

command<TrainOptions>(
  "train",
  "Train a byte-level model on text files; Ctrl-C saves, --resume goes on to the same numbers.",
  (options, context) => train(options, context),
)
  .requiredOption(
    "--data <paths...>",
    "text files, or folders of .txt files; for vision-mamba a safetensors file with pixels and labels",
  )
  .option("--except <names...>", "leave out files whose path ends so", [])
  .option("--valid <path>", "held-out text")
  .requiredOption("--out <folder>", "where the model, its log and its plot go")
  .option("--arch <name>", architectures.join(", "), choice("--arch", architectures), "mamba")
  .option("--config <file>", "JSON with more of the model's configuration, such as nExperts")
  .option("--d-model <n>", "width", integer("--d-model", 1), 96)
  .option("--n-layer <n>", "blocks", integer("--n-layer", 1), 3)
  .option("--d-state <n>", "states per channel", integer("--d-state", 1), 16)
  .option("--steps <n>", "updates", integer("--steps", 1), 1000)
  .option("--batch <n>", "sequences per batch", integer("--batch", 1), 8)
  .option("--length <n>", "bytes per sequence", integer("--length", 1), 256)
  .option("--accumulate <n>", "batches per update", integer("--accumulate", 1), 1)
  .option("--lr <x>", "peak learning rate", real("--lr", 0), 3e-3)
  .option("--final-lr <x>", "learning rate at the end", real("--final-lr", 0), 1e-5)
  .option("--warmup <n>", "steps of warm-up", integer("--warmup"), 50)
  .option("--weight-decay <x>", "AdamW's weight decay", real("--weight-decay", 0), 0.1)
  .option("--clip <x>", "largest gradient norm", real("--clip", 0), 1)
  .option("--seed <n>", "of weights and batches", integer("--seed"), 0)
  .option("--carry", "read contiguous text, carrying the state from batch to batch", false)
  .option(
    "--recompute [what]",
    "for less memory: all (a third more time), or cheap (a fifth less memory)",
    choice("--recompute", ["all", "cheap"]),
  )
  .option(
    "--dtype <name>",
    "of the activations: float32, or bf16 for mixed precision",
    choice("--dtype", ["float32", "bf16"]),
    "float32",
  )
  .option("--eval-every <n>", "steps between evaluations", integer("--eval-every", 1), 100)
  .option("--eval-bytes <n>", "bytes to evaluate on; 0: all", integer("--eval-bytes"), 16384)
  .option("--save-every <n>", "steps between checkpoints", integer("--save-every", 1), 100)
  .option("--stop-after <n>", "save and end after this step, as Ctrl-C does", integer("--stop-after", 1))
  .option("--resume", "go on from the checkpoint in --out", false)
  .option("--reschedule", "with --resume: under other --steps, --lr, --final-lr or --warmup than before", false);

command<GenerateCommandOptions>("generate", "Continue a prompt, streaming.", generateText)
  .requiredOption("--model <folder>", "a checkpoint's folder, a .gguf file, or a hub repository")
  .option("--prompt <text>", "text to continue")
  .option("--prompt-tokens <ids>", "token ids to continue, as 1,2,3", tokenList)
  .option(
    "--dtype <name>",
    `of the weights in memory: ${weightDtypes.join(", ")}; by default blocks stay, all else is float32`,
    choice("--dtype", weightDtypes),
  )
  .option("--max-tokens <n>", "tokens to make", integer("--max-tokens"), 128)
  .option("--temperature <x>", "0 takes the most probable token", real("--temperature", 0), 1)
  .option("--top-k <n>", "keep the n most probable tokens; 0: all", integer("--top-k"), 0)
  .option("--top-p <x>", "keep the most probable tokens up to this probability", real("--top-p", 0, 1), 1)
  .option("--min-p <x>", "drop tokens below this fraction of the best", real("--min-p", 0, 1), 0)
  .option("--repetition-penalty <x>", "above 1 penalises tokens that have occurred", real("--repetition-penalty", 0), 1)
  .option("--seed <n>", "of the sampling", integer("--seed"), 0)
  .option("--stop <texts...>", "texts that end the continuation", []);

command<EvalOptions>(
  "eval",
  "Bits per byte and perplexity on a text, LAMBADA accuracy, or accuracy on images.",
  evalModel,
)
  .requiredOption("--model <folder>", "a checkpoint's folder, a .gguf file, or a hub repository")
  .option("--text <path>", "a text file, or a folder of .txt files")
  .option("--lambada <file>", "LAMBADA as JSON lines with a text each")
  .option("--images <file>", "a safetensors file with pixels and labels, for image models")
  .option(
    "--dtype <name>",
    `of the weights in memory: ${weightDtypes.join(", ")}; by default blocks stay, all else is float32`,
    choice("--dtype", weightDtypes),
  )
  .option("--limit <n>", "tokens or passages at most; 0: all", integer("--limit"), 0)
  .option("--chunk <n>", "tokens per forward pass", integer("--chunk", 1), 1024);

command<ForwardCommandOptions>(
  "forward",
  "Run a model on given tokens or images and write logits, loss, hidden states and gradients.",
  forward,
)
  .requiredOption("--model <folder>", "a checkpoint's folder")
  .requiredOption("--input <file>", "a safetensors file with input_ids [B, L], or pixels [B, C, H, W] and labels [B]")
  .requiredOption("--output <file>", "the safetensors file to write")
  .option("--gradients", "also write grad.NAME for every parameter", false);

command<{ model: string; tensors: boolean }>(
  "inspect",
  "Show a checkpoint's config, tensors and memory need.",
  inspect,
  false,
)
  .requiredOption("--model <folder>", "a checkpoint's folder")
  .option("--tensors", "list every tensor", false);

command<ConvertOptions>(
  "convert",
  "Write a checkpoint under another naming, in another dtype, or as a GGUF file for llama.cpp.",
  convert,
)
  .requiredOption("--model <path>", "a checkpoint's folder, or a .gguf file")
  .requiredOption("--out <path>", "the folder where the converted one goes, or a .gguf file")
  .option("--dtype <name>", weightDtypes.join(", "), choice("--dtype", weightDtypes), "float32")
  .option(
    "--naming <name>",
    "transformers or state-spaces",
    choice("--naming", ["transformers", "state-spaces"]),
    "transformers",
  );

command<BenchOptions>(
  "bench",
  "Measure decoding, prefill and training on a backend, beside its limits, and show which ops run fused.",
  bench,
)
  .option("--model <folder>", "a checkpoint's folder, or a hub repository; random weights by default")
  .option("--d-model <n>", "width", integer("--d-model", 1), 96)
  .option("--n-layer <n>", "blocks", integer("--n-layer", 1), 3)
  .option("--d-state <n>", "states per channel", integer("--d-state", 1), 16)
  .option("--vocab-size <n>", "tokens that there are", integer("--vocab-size", 1), 256)
  .option("--batch <n>", "sequences per batch", integer("--batch", 1), 2)
  .option("--length <n>", "tokens per sequence", integer("--length", 1), 256)
  .option("--runs <n>", "timed runs of each", integer("--runs", 1), 5);

command(
  "backends",
  "List the backends and whether they work here.",
  async (_, { output }) => {
    const found = await listBackends();
    output.result(found.flatMap(backendLines).join("\n"), found);
  },
  false,
);

command<{ prompt: string; maxTokens: number; seed: number }>(
  "demo",
  "Stream text from the small model that comes with this command.",
  demo,
)
  .option("--prompt <text>", "text to continue", "It was a bright cold morning, and ")
  .option("--max-tokens <n>", "bytes to make", integer("--max-tokens", 1), 400)
  .option("--seed <n>", "of the sampling", integer("--seed"), 1);

function backendLines(b: BackendStatus): string[] {
  if (!b.available) return [`${b.name.padEnd(8)} not available: ${b.reason}`];
  const device = `${b.device}; buffers up to ${bytes(b.limits!.maxBufferBytes)}; fused: ${b.fused?.join(", ")}`;
  const adapters = (b.adapters ?? []).flatMap(({ name, preferences, isChosen, features, limits }) => [
    `  ${isChosen ? "*" : "-"} ${preferences.join(", ")}: ${name}${isChosen ? " (chosen)" : ""}`,
    `    features: ${features.join(" ")}`,
    `    limits: ${Object.entries(limits)
      .map(([limit, value]) => `${limit} ${value}`)
      .join(", ")}`,
  ]);
  return [`${b.name.padEnd(8)} ${device}`, ...adapters];
}

await program.parseAsync().catch((error: unknown) => {
  // Help was asked for, or an option is wrong: commander has said so already.
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
  else process.exitCode = reportError(error, wantsJson);
});
