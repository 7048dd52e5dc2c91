import { DTypeError, type FusedOps } from "@mamba-ts/backend";
import { place } from "../primitives/place.js";
import type { WebGpuMemory } from "../storage.js";

/** AdamW over all parameters, in place: see kernels/adamw. */
export function adamw(memory: WebGpuMemory): NonNullable<FusedOps["adamw"]> {
  return {
    supports: () => true,
    forward: ({ param, grad, m, v }, { lr, beta1, beta2, eps, step, weightDecay, gradScale }) => {
      param.forEach((operand, k) => {
        if (operand.dtype !== "float32") throw new DTypeError(`adamw: params[${k}] is ${operand.dtype}, not float32`);
        const buf = memory.own(operand.buf);
        memory.gpu.run(
          "adamw/adamw",
          {
            grad: memory.own(grad[k]!.buf),
            param: buf,
            m: memory.own(m[k]!.buf),
            v: memory.own(v[k]!.buf),
          },
          {
            count: buf.count,
            lr,
            beta1,
            beta2,
            eps,
            correct1: 1 / (1 - beta1 ** step),
            correct2: 1 / (1 - beta2 ** step),
            decay: weightDecay[k]!,
            grad_scale: gradScale,
          },
          { threads: buf.count },
        );
      });
    },
  };
}

/** Writes new keys or values into a cache, in place. */
export function kvAppend(memory: WebGpuMemory): NonNullable<FusedOps["kvAppend"]> {
  return {
    supports: ({ dtype }) => dtype === "float32",
    forward: ({ cache, update }, { batch, capacity, length, width, position }) => {
      place(memory, memory.own(update.buf), memory.own(cache.buf), {
        rows: batch,
        run: length * width,
        x_pitch: length * width,
        y_start: position * width,
        y_pitch: capacity * width,
      });
      return { outputs: { cache: cache.buf } };
    },
  };
}
