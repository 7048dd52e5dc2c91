/** bf16 and f16 are storage formats: primitives that compute do so in float32. */
import type { Buf, DType, Operand } from "@mamba-ts/backend";
import type { WebGpuMemory } from "../storage.js";
import { cast } from "./cast.js";

/** Runs `fn` on operands brought to float32, and brings its result to `dtype`. */
export function withFloat32(
  memory: WebGpuMemory,
  operands: readonly Operand[],
  dtype: DType,
  fn: (wide: readonly Operand[]) => Buf,
): Buf {
  const wide = operands.map((x) => ({ ...x, buf: cast(memory, x, "float32"), dtype: "float32" as const }));
  const y = fn(wide);
  for (const { buf } of wide) memory.free(buf);
  if (y.dtype === dtype) return y;
  const result = cast(memory, { buf: y, offset: 0, rowStride: y.count, shape: [y.count], dtype: y.dtype }, dtype);
  memory.free(y);
  return result;
}
