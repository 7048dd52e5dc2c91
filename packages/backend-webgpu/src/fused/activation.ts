import type { ActivationDescriptor, FusedOps, Operand } from "@mamba-ts/backend";
import type { Located } from "../gpu/gpu.js";
import type { WebGpuBuf, WebGpuMemory } from "../storage.js";
import { rowsOf } from "./operands.js";

const KINDS = ["gelu", "glu"] as const;

/** y, or with `gy` the gradient of x. */
function run(memory: WebGpuMemory, x: Operand, d: ActivationDescriptor, gy: Located | undefined): WebGpuBuf {
  const count = d.rows * d.width;
  const y = memory.alloc(gy !== undefined && d.kind === "glu" ? 2 * count : count, "float32");
  const { start, pitch } = rowsOf(x);
  memory.gpu.run(
    "activation/activation",
    { x: memory.own(x.buf), gy, y },
    { count, width: d.width, x_start: start, x_pitch: pitch },
    { constants: { KIND: KINDS.indexOf(d.kind), IS_GRADIENT: Number(gy !== undefined) }, threads: count },
  );
  return y;
}

/** gelu and glu: see kernels/activation. */
export function activation(memory: WebGpuMemory): NonNullable<FusedOps["activation"]> {
  return {
    supports: ({ dtype }) => dtype === "float32" && { strided: ["x"] },
    forward: ({ x }, d) => ({ outputs: { y: run(memory, x, d, undefined) }, saved: [] }),
    backward: ({ x }, d, _outputs, _saved, { y: gy }) => ({ x: run(memory, x, d, memory.own(gy!.buf)) }),
  };
}
