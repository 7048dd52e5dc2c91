import type { FusedOps, Operand } from "@mamba-ts/backend";
import type { CudaDevice } from "../device.js";
import { f64, i64, type Parameter } from "../launch.js";

/** Tensors a launch: MAX of the kernel. */
const MAX = 48;

/** AdamW over all parameters, MAX of them a launch. */
export function adamw(device: CudaDevice): NonNullable<FusedOps["adamw"]> {
  return {
    supports: () => true,
    forward({ param, grad, m, v }, { lr, beta1, beta2, eps, step, weightDecay, gradScale }) {
      for (const dtype of ["float32", "float64"] as const) {
        const all = param.flatMap((p, k) => (p.dtype === dtype ? [k] : []));
        for (let at = 0; at < all.length; at += MAX) {
          const some = all.slice(at, at + MAX);
          const padded = <T>(of: (k: number) => T, none: T): T[] =>
            Array.from({ length: MAX }, (_, i) => (i < some.length ? of(some[i]!) : none));
          const addresses = (list: readonly Operand[]): Parameter =>
            i64(padded((k) => device.own(list[k]!).pointer, 0));
          const sizes = padded((k) => device.own(param[k]!).count, 0);
          const largest = Math.max(...sizes);
          const blocks = Math.max(1, Math.min(Math.ceil(largest / 1024), 256));
          device.launch(
            "adamw",
            `adamw_${dtype}`,
            [blocks, some.length],
            [256],
            [
              ...[param, m, v, grad].map(addresses),
              i64(sizes),
              ...padded((k) => weightDecay[k]!, 0).map(f64),
              ...[lr, beta1, beta2, eps, 1 / (1 - beta1 ** step), 1 / (1 - beta2 ** step), gradScale].map(f64),
            ],
          );
          // Of addresses the launch does not see which buffers they are.
          for (const list of [param, m, v, grad]) for (const k of some) device.own(list[k]!).used = device.memory.ends;
        }
      }
    },
  };
}

/** Writes new keys or values into a cache, in place. */
export function kvAppend(device: CudaDevice): NonNullable<FusedOps["kvAppend"]> {
  return {
    supports: () => true,
    forward({ cache, update }, { batch, capacity, length, width, position }) {
      const [to, from] = [device.own(cache), device.own(update)];
      const bytes = length * width * to.bytesEach;
      for (let b = 0; b < batch && bytes > 0; b++)
        device.native.copy(
          to.pointer + (b * capacity + position) * width * to.bytesEach,
          from.pointer + b * bytes,
          bytes,
        );
      return { outputs: { cache: cache.buf } };
    },
  };
}
