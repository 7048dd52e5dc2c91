import type { Backend } from "@mamba-ts/backend";
import { Mamba, type MambaConfig } from "@mamba-ts/mamba";
import { cast, fromHost, Rng, scope } from "@mamba-ts/tensor";

/** Shapes that are measured, of state-spaces/mamba's checkpoints. */
export const shapes = {
  "130m": { dModel: 768, nLayer: 24, dState: 16, vocabSize: 50280 },
  /** Half the layers: the difference is that of a layer. */
  "130m-12": { dModel: 768, nLayer: 12, dState: 16, vocabSize: 50280 },
  "1.4b": { dModel: 2048, nLayer: 48, dState: 16, vocabSize: 50280 },
} as const;

/** A model with random weights. Large ones repeat a million numbers: drawing each takes a minute a billion, and speed does not depend on them. */
export function randomModel(config: MambaConfig, backend: Backend, dtype: "bf16" | "float32"): Mamba {
  const model = new Mamba(config);
  const rng = new Rng(1);
  const some = Float32Array.from(rng.normal(2 ** 20));
  for (const p of model.parameters()) {
    if (p.size <= some.length) {
      p.initialise(backend, rng, dtype);
      continue;
    }
    const all = new Float32Array(p.size);
    const scaled = some.map((x) => (0.5 * x) / Math.sqrt(p.shape.at(-1)!));
    for (let i = 0; i < all.length; i += some.length)
      all.set(scaled.subarray(0, Math.min(some.length, all.length - i)), i);
    p.value = scope(() => cast(fromHost(backend, all, p.shape, "float32"), p.dtypeIn(dtype)));
  }
  return model;
}
