import { DTypeError, type FusedOps } from "@mamba-ts/backend";
import { move } from "../primitives/move.js";
import { operation } from "../runtime/call.js";
import type { WasmMemory } from "../runtime/memory.js";

/** AdamW over all parameters, in place, in float32; see kernels/adamw. */
export function adamw(memory: WasmMemory): NonNullable<FusedOps["adamw"]> {
  return {
    supports: () => true,
    forward: ({ param, grad, m, v }, { lr, beta1, beta2, eps, step, weightDecay, gradScale }) =>
      operation(memory, (call) => {
        for (const { dtype } of [...param, ...m, ...v])
          if (dtype !== "float32")
            throw new DTypeError(`wasm: adamw of ${dtype}`, { hint: "keep parameters and moments in float32" });
        const correct = [1 / (1 - beta1 ** step), 1 / (1 - beta2 ** step)] as const;
        for (const [k, { buf }] of param.entries())
          call.kernels.adamw(
            ...([call.at(param[k]!), call.numbers(grad[k]!), call.at(m[k]!), call.at(v[k]!), buf.count] as const),
            ...([lr, beta1, beta2, 1 - beta1, 1 - beta2, eps, ...correct, weightDecay[k]!, gradScale] as const),
          );
      }),
  };
}

/** Writes new keys or values into a cache, in place. */
export function kvAppend(memory: WasmMemory): NonNullable<FusedOps["kvAppend"]> {
  return {
    supports: () => true,
    forward: ({ cache, update }, { batch, capacity, length, width, position, dtype }) =>
      operation(memory, (call) => {
        const to = call.at({ ...cache, offset: position * width });
        const run = length * width;
        move(call, dtype, [batch, run], to, [capacity * width, 1], call.at(update), [run, 1]);
        return { outputs: { cache: cache.buf } };
      }),
  };
}
