import type { Buf, FusedOps } from "@mamba-ts/backend";
import { type Call, operation } from "../runtime/call.js";
import type { WasmMemory } from "../runtime/memory.js";

type Op = NonNullable<FusedOps["moe"]>;
type Args = Parameters<Op["forward"]>[0];
type Descriptor = Parameters<Op["forward"]>[1];

/** The order of kernels/moe. */
const activations = ["relu", "silu", "gelu"] as const;

/** The arguments as kernels/moe reads them; `perPair` numbers of scratch for each choice of an expert. */
function wordsOf(call: Call, args: Args, d: Descriptor, perPair: number): number[] {
  const pairs = d.tokens * d.topK;
  const given = [args.x, args.indices, args.weights, args.gate, args.up, args.down].map((x) => call.optional(x));
  const scratch = [call.scratch(d.experts + 1 + pairs), call.scratch(pairs * perPair)];
  const sizes = [d.tokens, d.width, d.hidden, d.experts, d.topK, activations.indexOf(d.activation)];
  return [...sizes, ...given, ...scratch];
}

/** Mixture of experts, in float32; see kernels/moe. */
export function moe(memory: WasmMemory): Op {
  return {
    supports: ({ dtype }) => dtype === "float32",
    forward: (args, d) =>
      operation(memory, (call) => {
        const y = call.alloc(d.tokens * d.width, "float32");
        call.kernels.moe(y.at, memory.words(wordsOf(call, args, d, 2 * (d.width + d.hidden))));
        return { outputs: { y }, saved: [] };
      }),
    backward: (args, d, _outputs, _saved, { y: gradY }, needs) =>
      operation(memory, (call) => {
        const grads: { [name: string]: Buf } = {};
        const matrices = d.experts * d.hidden * d.width;
        const sizes = {
          x: d.tokens * d.width,
          weights: d.tokens * d.topK,
          gate: matrices,
          up: matrices,
          down: matrices,
        };
        const at = Object.entries(sizes).map(([name, size]) => {
          if (!needs.has(name as keyof typeof sizes)) return 0;
          const grad = call.alloc(size, "float32");
          grads[name] = grad;
          return grad.at;
        });
        const words = wordsOf(call, args, d, 2 * d.width + 4 * d.hidden);
        call.kernels.moe_backward(memory.words([...words, call.at(gradY!), ...at]));
        return grads;
      }),
  };
}
