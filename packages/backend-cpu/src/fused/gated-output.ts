import type { Buf, FusedOps, Operand } from "@mamba-ts/backend";
import { sigmoid, siluGradient } from "../functions.js";
import type { CpuMemory } from "../storage.js";
import { floats, optionalFloats, output, outputOf } from "../values.js";

type Op = NonNullable<FusedOps["gatedOutput"]>;

/** (y + D x) silu(z) */
export function gatedOutput(memory: CpuMemory): Op {
  const optional = (operand: Operand | undefined) => optionalFloats(memory, operand);
  return {
    supports: () => ({ strided: ["z"] }),
    forward: (args, { rows, channels, dtype }) => {
      const [y, x, D, z] = [floats(memory, args.y), optional(args.x), optional(args.D), optional(args.z)];
      const out = output(memory, rows * channels, dtype);
      for (let r = 0; r < rows; r++)
        for (let c = 0, i = r * channels; c < channels; c++, i++) {
          const skipped = D === undefined ? y[i]! : y[i]! + D[c]! * x![i]!;
          const gate = z === undefined ? 0 : z[args.z!.offset + r * args.z!.rowStride + c]!;
          out.values[i] = z === undefined ? skipped : skipped * gate * sigmoid(gate);
        }
      return { outputs: { out: out.finish() }, saved: [] };
    },
    backward: (args, { rows, channels, dtype }, _outputs, _saved, { out: gradOut }, needs) => {
      const [y, x, D, z, g] = [
        floats(memory, args.y),
        optional(args.x),
        optional(args.D),
        optional(args.z),
        floats(memory, gradOut!),
      ];
      const request = (name: "y" | "x" | "z") => (needs.has(name) ? output(memory, rows * channels, dtype) : undefined);
      const [gy, gx, gz] = [request("y"), request("x"), request("z")];
      const gD = new Float64Array(channels);
      for (let r = 0; r < rows; r++)
        for (let c = 0, i = r * channels; c < channels; c++, i++) {
          let through = g[i]!;
          if (z !== undefined) {
            const gate = z[args.z!.offset + r * args.z!.rowStride + c]!;
            const s = sigmoid(gate);
            if (gz !== undefined)
              gz.values[i] = g[i]! * (D === undefined ? y[i]! : y[i]! + D[c]! * x![i]!) * siluGradient(gate, s);
            through *= gate * s;
          }
          if (gy !== undefined) gy.values[i] = through;
          if (D !== undefined) {
            gD[c] = gD[c]! + through * x![i]!;
            if (gx !== undefined) gx.values[i] = through * D[c]!;
          }
        }
      const result: { [K in "y" | "x" | "D" | "z"]?: Buf } = {};
      if (gy !== undefined) result.y = gy.finish();
      if (gx !== undefined) result.x = gx.finish();
      if (gz !== undefined) result.z = gz.finish();
      if (needs.has("D")) result.D = outputOf(memory, gD, args.D!.dtype);
      return result;
    },
  };
}
