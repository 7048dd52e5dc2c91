/** What the programs of this folder share: a backend by name, random models, and generation as users call it. */
import type { Backend } from "@mamba-ts/backend";
import { createBackend as openCuda } from "@mamba-ts/backend-cuda";
import { createBackend as openWebGpu } from "@mamba-ts/backend-webgpu";
import type { Tokenizer } from "@mamba-ts/generate";
import { Mamba, type MambaConfig } from "@mamba-ts/mamba";
import { cast, fromHost, Rng, scope } from "@mamba-ts/tensor";

export async function open(name: string): Promise<Backend> {
  if (name === "webgpu") return openWebGpu();
  const nativeFolder = process.env["MAMBA_TS_CUDA_NATIVE"];
  return openCuda(nativeFolder === undefined ? {} : { nativeFolder });
}

/** Takes a backend's `capture` away, or gives it back. */
export function offer(backend: Backend, capture: Backend["capture"] | undefined): void {
  (backend as { capture: unknown }).capture = capture;
}

/** Random weights; large ones repeat a million numbers, since drawing all of them takes longer than what is measured. */
export function randomModel(config: MambaConfig, backend: Backend, dtype: "bf16" | "float32"): Mamba {
  const model = new Mamba(config);
  const rng = new Rng(1);
  const some = Float32Array.from(rng.normal(2 ** 20));
  for (const [name, p] of model.namedParameters()) {
    if (!/embed|proj/.test(name)) {
      p.initialise(backend, rng, dtype);
      continue;
    }
    const all = new Float32Array(p.size);
    const scaled = some.map((x) => x / Math.sqrt(p.shape.at(-1)!));
    for (let i = 0; i < all.length; i += some.length)
      all.set(scaled.subarray(0, Math.min(some.length, all.length - i)), i);
    p.value = scope(() => cast(fromHost(backend, all, p.shape, "float32"), p.dtypeIn(dtype)));
  }
  return model;
}

/** Ids as text. */
export const numbers: Tokenizer = {
  encode: () => [],
  streamDecoder: () => ({ push: (id) => `${id} `, flush: () => "" }),
};
