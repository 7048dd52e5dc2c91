import type { FusedOps } from "@mamba-ts/backend";
import type { CudaDevice } from "../device.js";
import { f64, i64 } from "../launch.js";
import { withDType } from "./shared.js";

/** Draws one token a row where the logits are: see kernels/sample. */
export function sample(device: CudaDevice): NonNullable<FusedOps["sample"]> {
  return {
    supports: ({ vocab }) => vocab > 0 && vocab < 2 ** 24,
    forward: ({ logits }, { batch, vocab, temperature, topK, topP, minP, seed, counter }) =>
      withDType(device, logits, "float32", (wide) => {
        const token = device.alloc(batch, "int32");
        const logprob = device.alloc(batch, "float32");
        const numbers = [i64([vocab, topK, seed, counter]), ...[temperature, topP, minP].map(f64)];
        device.launch("sample", "sample", [batch], [1024], [device.own(wide), token, logprob, ...numbers]);
        return { outputs: { token, logprob } };
      }),
  };
}
