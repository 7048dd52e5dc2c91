import type { FusedOps } from "@mamba-ts/backend";
import { operation } from "../runtime/call.js";
import type { WasmMemory } from "../runtime/memory.js";

/** The order of kernels/moe. */
const activations = ["relu", "silu", "gelu"] as const;

/** Mixture of experts, in float32, forwards; see kernels/moe. */
export function moe(memory: WasmMemory): NonNullable<FusedOps["moe"]> {
  return {
    supports: ({ dtype }) => dtype === "float32",
    supportsBackward: () => false,
    forward: (args, { tokens, width, hidden, experts, topK, activation }) =>
      operation(memory, (call) => {
        const y = call.alloc(tokens * width, "float32");
        const pairs = tokens * topK;
        const given = [args.x, args.indices, args.weights, args.gate, args.up, args.down].map((x) => call.optional(x));
        const scratch = [call.scratch(experts + 1 + pairs), call.scratch(pairs * 2 * (width + hidden))];
        const sizes = [tokens, width, hidden, experts, topK, activations.indexOf(activation)];
        call.kernels.moe(y.at, memory.words([...sizes, ...given, ...scratch]));
        return { outputs: { y }, saved: [] };
      }),
  };
}
