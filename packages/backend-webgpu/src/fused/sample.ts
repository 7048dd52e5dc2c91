import type { FusedOps } from "@mamba-ts/backend";
import { threadsFor } from "../shapes.js";
import type { WebGpuMemory } from "../storage.js";
import { optional } from "./operands.js";

const low = (n: number): number => n % 2 ** 32;
const high = (n: number): number => Math.floor(n / 2 ** 32);

/** Draws one token per row on the device, so that ids alone are read back: see kernels/sample. */
export function sample(memory: WebGpuMemory): NonNullable<FusedOps["sample"]> {
  return {
    supports: ({ vocab }) => vocab > 0 && vocab < 2 ** 24,
    forward: (args, { batch, vocab, temperature, topK, topP, minP, seed, counter, inPlace }) => {
      const token = inPlace ? memory.own(args.token!.buf) : memory.alloc(batch, "int32");
      const logprob = memory.alloc(batch, "float32");
      memory.gpu.run(
        "sample/sample",
        { logits: memory.own(args.logits.buf), token, logprob, counters: optional(memory, args.counter) },
        {
          batch,
          vocab,
          top_k: topK,
          seed_low: low(seed),
          seed_high: high(seed),
          counter_low: low(counter),
          counter_high: high(counter),
          in_place: Number(inPlace),
          temperature,
          top_p: topP,
          min_p: minP,
        },
        { constants: { THREADS: threadsFor(vocab) }, groups: batch },
      );
      return { outputs: { token, logprob } };
    },
  };
}
