import type { FusedOps } from "@mamba-ts/backend";
import { operation } from "../runtime/call.js";
import type { WasmMemory } from "../runtime/memory.js";

/** An integer below 2^53 as two words. */
function twoWords(n: number): [low: number, high: number] {
  return [n % 2 ** 32, Math.floor(n / 2 ** 32)];
}

/** Draws one token per row; see kernels/sample. */
export function sample(memory: WasmMemory): NonNullable<FusedOps["sample"]> {
  return {
    supports: ({ vocab }) => vocab > 0,
    forward: (args, { batch, vocab, temperature, topK, topP, minP, seed, counter, inPlace }) =>
      operation(memory, (call) => {
        const from = call.numbers(args.logits);
        const token = inPlace ? memory.own(args.token!.buf) : call.alloc(batch, "int32");
        const counters = call.optional(args.counter);
        const logprob = call.alloc(batch, "float32");
        const words = memory.words([batch, vocab, topK, ...twoWords(seed), ...twoWords(counter)]);
        const scratch = call.scratch(4 * vocab);
        call.kernels.sample(token.at, logprob.at, counters, from, scratch, words, temperature, topP, minP);
        return { outputs: { token, logprob } };
      }),
  };
}
