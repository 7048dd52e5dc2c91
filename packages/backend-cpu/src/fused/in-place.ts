import type { FusedOps, Operand } from "@mamba-ts/backend";
import type { CpuMemory } from "../storage.js";
import { floats } from "../values.js";

/** AdamW over all parameters, in place. Parameters and moments are float32 or float64: what is decoded could not be overwritten. */
export function adamw(memory: CpuMemory): NonNullable<FusedOps["adamw"]> {
  return {
    supports: () => true,
    forward: ({ param, grad, m, v }, { lr, beta1, beta2, eps, step, weightDecay, gradScale }) => {
      const correct1 = 1 / (1 - beta1 ** step);
      const correct2 = 1 / (1 - beta2 ** step);
      param.forEach((operand, k) => {
        const [p, g, first, second] = [operand, grad[k]!, m[k]!, v[k]!].map((o: Operand) => floats(memory, o)) as [
          Float32Array,
          Float32Array,
          Float32Array,
          Float32Array,
        ];
        const decay = weightDecay[k]!;
        for (let i = 0; i < p.length; i++) {
          const gi = g[i]! * gradScale;
          first[i] = beta1 * first[i]! + (1 - beta1) * gi;
          second[i] = beta2 * second[i]! + (1 - beta2) * gi * gi;
          const update = (first[i]! * correct1) / (Math.sqrt(second[i]! * correct2) + eps) + decay * p[i]!;
          p[i] = p[i]! - lr * update;
        }
      });
    },
  };
}

/** Writes new keys or values into a cache, in place. */
export function kvAppend(memory: CpuMemory): NonNullable<FusedOps["kvAppend"]> {
  return {
    supports: () => true,
    forward: ({ cache, update }, { batch, capacity, length, width, position }) => {
      const [to, from] = [memory.own(cache.buf).words, memory.own(update.buf).words];
      for (let b = 0; b < batch; b++)
        to.set(from.subarray(b * length * width, (b + 1) * length * width), (b * capacity + position) * width);
      return { outputs: { cache: cache.buf } };
    },
  };
}
