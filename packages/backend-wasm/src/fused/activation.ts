import type { FusedOps } from "@mamba-ts/backend";
import { operation } from "../runtime/call.js";
import type { WasmMemory } from "../runtime/memory.js";

/** The order of kernels/activation. */
const kinds = ["gelu", "glu"] as const;

/** gelu and glu in one pass, in float32; see kernels/activation. */
export function activation(memory: WasmMemory): NonNullable<FusedOps["activation"]> {
  return {
    supports: ({ dtype }) => (dtype === "float32" ? { strided: ["x"] } : false),
    forward: ({ x }, { rows, width, kind }) =>
      operation(memory, (call) => {
        const y = call.alloc(rows * width, "float32");
        call.kernels.activation(y.at, call.at(x), x.rowStride, rows, width, kinds.indexOf(kind));
        return { outputs: { y }, saved: [] };
      }),
    backward: ({ x }, { rows, width, kind }, _outputs, _saved, { y: gradY }) =>
      operation(memory, (call) => {
        const gx = call.alloc(rows * width * (kind === "glu" ? 2 : 1), "float32");
        const sizes = [rows, width, kinds.indexOf(kind)] as const;
        call.kernels.activation_backward(gx.at, call.at(gradY!), call.at(x), x.rowStride, ...sizes);
        return { x: gx };
      }),
  };
}
