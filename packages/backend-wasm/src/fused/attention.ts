import type { Buf, FusedOps } from "@mamba-ts/backend";
import { type Call, operation } from "../runtime/call.js";
import type { WasmMemory } from "../runtime/memory.js";

type Op = NonNullable<FusedOps["attention"]>;
type Args = Parameters<Op["forward"]>[0];
type Descriptor = Parameters<Op["forward"]>[1];

/** As in kernels/attention. */
const WIDEST = 256;

function wordsOf(call: Call, args: Args, d: Descriptor): number {
  const sizes = [d.batch, d.queries, d.keys, d.heads, d.kvHeads, d.headDim, d.causal ? 1 : 0];
  const given = [args.q, args.k, args.v, args.querySegments, args.keySegments].map((x) => call.optional(x));
  return call.memory.words([...sizes, ...given]);
}

/** Grouped-query attention, in float32; see kernels/attention. */
export function attention(memory: WasmMemory): Op {
  return {
    supports: ({ dtype, headDim }) => dtype === "float32" && headDim <= WIDEST,
    forward: (args, d, { save }) =>
      operation(memory, (call) => {
        const y = call.alloc(d.batch * d.queries * d.heads * d.headDim, "float32");
        const logSums = save ? call.alloc(d.batch * d.queries * d.heads, "float32") : undefined;
        call.kernels.attention(y.at, logSums?.at ?? 0, wordsOf(call, args, d), d.scale);
        return { outputs: { y }, saved: logSums === undefined ? [] : [logSums] };
      }),
    backward: (args, d, outputs, saved, { y: gradY }, needs) =>
      operation(memory, (call) => {
        const grads: { [name: string]: Buf } = {};
        const gradient = (name: "q" | "k" | "v"): number => {
          const size = args[name].shape.reduce((a, b) => a * b, 1);
          if (!needs.has(name)) return call.scratch(size);
          const grad = call.alloc(size, "float32");
          grads[name] = grad;
          return grad.at;
        };
        const all = [gradient("q"), gradient("k"), gradient("v"), call.at(gradY!), call.at(outputs.y!)] as const;
        call.kernels.attention_backward(...all, memory.own(saved[0]!).at, wordsOf(call, args, d), d.scale);
        return grads;
      }),
  };
}
