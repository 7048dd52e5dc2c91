import type { Buf, FusedOps } from "@mamba-ts/backend";
import { operation } from "../runtime/call.js";
import type { WasmMemory } from "../runtime/memory.js";

/** (y + D x) silu(z), in float32; see kernels/gated-output. */
export function gatedOutput(memory: WasmMemory): NonNullable<FusedOps["gatedOutput"]> {
  return {
    supports: ({ dtype }) => (dtype === "float32" ? { strided: ["z"] } : false),
    forward: (args, { rows, channels }) =>
      operation(memory, (call) => {
        const [y, x, z] = [call.at(args.y), call.optional(args.x), call.optional(args.z)];
        const D = args.D === undefined ? 0 : call.numbers(args.D);
        const out = call.alloc(rows * channels, "float32");
        call.kernels.gated_output(out.at, y, x, D, z, args.z?.rowStride ?? 0, rows, channels);
        return { outputs: { out }, saved: [] };
      }),
    backward: (args, { rows, channels }, _outputs, _saved, { out: gradOut }, needs) =>
      operation(memory, (call) => {
        const grads: { [name: string]: Buf } = {};
        const gradient = (name: "y" | "x" | "z" | "D", size: number): number => {
          if (!needs.has(name)) return 0;
          const grad = call.alloc(size, "float32");
          grads[name] = grad;
          return grad.at;
        };
        const size = rows * channels;
        call.kernels.gated_output_backward(
          ...([gradient("y", size), gradient("x", size), gradient("z", size), gradient("D", channels)] as const),
          ...([call.at(gradOut!), call.at(args.y), call.optional(args.x)] as const),
          args.D === undefined ? 0 : call.numbers(args.D),
          ...([call.optional(args.z), args.z?.rowStride ?? 0, rows, channels] as const),
        );
        return grads;
      }),
  };
}
