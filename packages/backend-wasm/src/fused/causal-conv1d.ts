import type { Buf, CausalConv1dDescriptor, FusedOps } from "@mamba-ts/backend";
import { type Call, operation } from "../runtime/call.js";
import type { WasmMemory } from "../runtime/memory.js";

type Op = NonNullable<FusedOps["causalConv1d"]>;
type Args = Parameters<Op["forward"]>[0];

/** As in kernels/causal-conv1d. */
const WIDEST = 16;

/** The arguments as kernels/causal-conv1d reads them. */
export function convWords(call: Call, args: Args, d: CausalConv1dDescriptor): number {
  const { batch, length, channels, width } = d;
  const taps = call.scratch(batch * (length + 1) * width);
  const turned = call.scratch(channels * width);
  const given = [args.weight, args.bias, args.initialState, args.marks].map((x) => call.optional(x));
  const x = [call.at(args.x), args.x.rowStride];
  return call.memory.words([
    ...[batch, length, channels, width, d.activation === "silu" ? 1 : 0],
    ...[...x, ...given, taps, turned],
  ]);
}

/** Causal depthwise convolution, in float32; see kernels/causal-conv1d. */
export function causalConv1d(memory: WasmMemory): Op {
  return {
    supports: ({ dtype, width }) => (dtype === "float32" && width <= WIDEST ? { strided: ["x"] } : false),
    forward: (args, d) =>
      operation(memory, (call) => {
        const y = call.alloc(d.batch * d.length * d.channels, "float32");
        const finalState = call.alloc(d.batch * (d.width - 1) * d.channels, "float32");
        call.kernels.causal_conv1d(y.at, finalState.at, convWords(call, args, d));
        return { outputs: { y, finalState }, saved: [] };
      }),
    backward: (args, d, _outputs, _saved, gradOutputs, needs) =>
      operation(memory, (call) => {
        const grads: { [name: string]: Buf } = {};
        const gradient = (name: "x" | "weight" | "bias" | "initialState", size: number): number => {
          if (!needs.has(name)) return call.scratch(size);
          const grad = call.alloc(size, "float32");
          grads[name] = grad;
          return grad.at;
        };
        call.kernels.causal_conv1d_backward(
          gradient("x", d.batch * d.length * d.channels),
          gradient("initialState", d.batch * (d.width - 1) * d.channels),
          gradient("weight", d.channels * d.width),
          gradient("bias", d.channels),
          call.optional(gradOutputs.y),
          call.optional(gradOutputs.finalState),
          convWords(call, args, d),
        );
        return grads;
      }),
  };
}
