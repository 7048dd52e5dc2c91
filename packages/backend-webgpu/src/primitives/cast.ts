import type { Buf, DType, Operand } from "@mamba-ts/backend";
import { sizeOf } from "../shapes.js";
import type { WebGpuMemory } from "../storage.js";
import { place } from "./place.js";

/** bf16 and f16: two elements to a word. */
export function isHalf(dtype: DType): boolean {
  return dtype === "bf16" || dtype === "f16";
}

/** FROM and TO in kernels/cast. */
const formats: { readonly [K in DType]?: number } = { float32: 0, int32: 1, f16: 2, bf16: 3, q8_0: 4 };

export function cast(memory: WebGpuMemory, x: Operand, to: DType): Buf {
  const from = memory.own(x.buf);
  const count = sizeOf(x.shape);
  if (to === "q8_0" && x.dtype !== "q8_0") return quantize(memory, x, count);
  const y = memory.alloc(count, to);
  const { gpu } = memory;
  if (to === x.dtype) {
    const words = y.dtype === "q8_0" ? (count / 32) * 9 : Math.ceil(isHalf(to) ? count / 2 : count);
    place(memory, from, y, { rows: 1, run: words, x_pitch: 0, y_start: 0, y_pitch: 0 });
    return y;
  }
  const constants = { FROM: formats[x.dtype]!, TO: formats[to]! };
  gpu.run("cast/cast", { x: from, y }, { count }, { constants, threads: isHalf(to) ? Math.ceil(count / 2) : count });
  return y;
}

function quantize(memory: WebGpuMemory, x: Operand, count: number): Buf {
  if (x.dtype !== "float32") {
    const wide = cast(memory, x, "float32");
    const y = quantize(memory, { ...x, buf: wide, dtype: "float32" }, count);
    memory.free(wide);
    return y;
  }
  const y = memory.alloc(count, "q8_0");
  const blocks = count / 32;
  memory.gpu.run("cast/quantize", { x: memory.own(x.buf), y }, { blocks }, { threads: blocks });
  return y;
}
