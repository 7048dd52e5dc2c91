import { Command } from "commander";
import type { Backend } from "@mamba-ts/backend";
import { train, type TrainOptions } from "./commands/train.js";
import { chooseBackend } from "./lib/backend.js";
import { integer, real } from "./lib/numbers.js";
import { createOutput, type Output, reportError } from "./lib/output.js";

const program = new Command("mamba").description("State space models: generate, train, evaluate, inspect, convert.").showHelpAfterError();

interface Context {
  readonly output: Output;
  readonly signal: AbortSignal;
  readonly backend: Backend;
}

/** Adds what every command has, runs it, and turns what happens into an exit code. */
function command<T>(name: string, description: string, run: (options: T, context: Context, args: string[]) => Promise<void>, needsBackend = true): Command {
  const sub = program.command(name).description(description).option("--json", "print results as JSON", false);
  if (needsBackend) sub.option("--backend <name>", "cpu, wasm, webgpu, cuda, a package, or a path to a module", "auto");
  sub.action(async (...all: unknown[]) => {
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
      void all;
    }
  });
  return sub;
}

command<TrainOptions>("train", "Train a byte-level Mamba on text files; Ctrl-C saves, --resume goes on to the same numbers.", (options, context) => train(options, context))
  .requiredOption("--data <paths...>", "text files, or folders of .txt files")
  .option("--except <names...>", "leave out files whose path ends so", [])
  .option("--valid <path>", "held-out text")
  .requiredOption("--out <folder>", "where the model, its log and its plot go")
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
  .option("--recompute", "less memory, a third more time", false)
  .option("--eval-every <n>", "steps between evaluations", integer("--eval-every", 1), 100)
  .option("--eval-bytes <n>", "bytes to evaluate on; 0: all", integer("--eval-bytes"), 16384)
  .option("--save-every <n>", "steps between checkpoints", integer("--save-every", 1), 100)
  .option("--resume", "go on from the checkpoint in --out", false);

await program.parseAsync().catch((error: unknown) => {
  process.exitCode = reportError(error, process.argv.includes("--json"));
});
