import type { Backend } from "@mamba-ts/backend";
import { Mamba, type MambaConfig } from "@mamba-ts/mamba";
import { cast, concat, copy, fromHost, mul, Rng, reshape, scope, slice } from "@mamba-ts/tensor";

/** Shapes that are measured, of state-spaces/mamba's checkpoints. */
export const shapes = {
  "130m": { dModel: 768, nLayer: 24, dState: 16, vocabSize: 50280 },
  /** Half the layers: the difference is that of a layer. */
  "130m-12": { dModel: 768, nLayer: 12, dState: 16, vocabSize: 50280 },
  "1.4b": { dModel: 2048, nLayer: 48, dState: 16, vocabSize: 50280 },
} as const;

/** A model with random weights. Large ones repeat a million numbers, on the device: drawing each takes a minute a billion, and speed does not depend on them. */
export function randomModel(config: MambaConfig, backend: Backend, dtype: "bf16" | "float32"): Mamba {
  const model = new Mamba(config);
  const rng = new Rng(1);
  const size = 2 ** 20;
  const some = Float32Array.from(rng.normal(size));
  scope(() => {
    const million = fromHost(backend, some, [size], "float32");
    for (const p of model.parameters()) {
      // Those of a layer's channels matter for what is computed, and are few.
      if (p.size <= 2 ** 16) {
        p.initialise(backend, rng, dtype);
        continue;
      }
      p.value = scope(() => {
        const part = cast(mul(million, 0.5 / Math.sqrt(p.shape.at(-1)!)), p.dtypeIn(dtype));
        if (p.size <= size) return reshape(copy(slice(part, 0, 0, p.size)), p.shape);
        const rest = p.size % size;
        const parts = Array.from({ length: Math.floor(p.size / size) }, () => part);
        return reshape(concat(rest === 0 ? parts : [...parts, slice(part, 0, 0, rest)], 0), p.shape);
      });
    }
  });
  return model;
}
