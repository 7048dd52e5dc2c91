import type { FusedOps } from "@mamba-ts/backend";
import type { CudaDevice } from "../device.js";
import { f64, i64, pointer } from "../launch.js";
import { withDType } from "./shared.js";

/** Logits a block takes, and bytes of what it finds: PART and sizeof(Part) of the kernel. */
const PART = 2048;
const PART_BYTES = 24;

/** Draws one token a row where the logits are: see kernels/sample. */
export function sample(device: CudaDevice): NonNullable<FusedOps["sample"]> {
  return {
    supports: ({ vocab }) => vocab > 0 && vocab < 2 ** 24,
    forward: (args, { batch, vocab, temperature, topK, topP, minP, seed, counter, inPlace }) =>
      withDType(device, args.logits, "float32", (wide) => {
        const [x, logprob] = [device.own(wide), device.alloc(batch, "float32")];
        const token = inPlace ? device.own(args.token!) : device.alloc(batch, "int32");
        const counters = pointer(inPlace ? device.own(args.counter!) : undefined);
        if (topK > 0 || topP < 1 || minP > 0) {
          const numbers = [i64([vocab, topK, seed, counter]), ...[temperature, topP, minP].map(f64)];
          device.launch("sample", "sample", [batch], [1024], [x, token, logprob, counters, ...numbers]);
          return { outputs: { token, logprob } };
        }
        const count = Math.ceil(vocab / PART);
        const parts = device.alloc((count * batch * PART_BYTES) / 4, "float32");
        if (temperature > 0) {
          const draw = [x, parts, counters, i64([vocab, seed, counter]), f64(temperature)];
          device.launch("sample", "sample_parts", [count, batch], [256], draw, 0, true);
        } else device.launch("sample", "sample_largest_parts", [count, batch], [128], [x, parts, i64(vocab)], 0, true);
        const join = [parts, token, logprob, counters, i64(count)];
        device.launch("sample", "sample_join", [batch], [32], join, 0, "ends");
        device.memory.free(parts);
        return { outputs: { token, logprob } };
      }),
  };
}
