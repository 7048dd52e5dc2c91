/** Prefill in chunks, batch 1: time a token and memory against the length. `node bench-length.mjs [bf16|float32] [longest]` */
import { Rng, scope, tensor } from "@mamba-ts/tensor";
import { createBackend } from "../../src/index.js";
import { randomModel, shapes } from "./support/random-model.js";

const nativeFolder = process.env["MAMBA_TS_CUDA_NATIVE"];
const backend = await createBackend(nativeFolder === undefined ? {} : { nativeFolder });
const [dtype = "bf16", longest = String(2 ** 20)] = process.argv.slice(2) as ["bf16" | "float32", string];
const config = shapes["130m"];
const model = randomModel(config, backend, dtype);
const chunk = 16_384;
const ids = Int32Array.from(new Rng(1).integers(chunk, config.vocabSize));
console.log(`${backend.device}; 130m's shape, ${dtype}, chunks of ${chunk} tokens`);
const [freeBefore] = backend.cuda.native.memInfo();
for (let length = chunk; length <= Number(longest); length *= 4) {
  const times: number[] = [];
  for (let run = 0; run < (length === chunk ? 6 : 3); run++) {
    using state = model.createState(1);
    await backend.synchronize();
    const start = performance.now();
    for (let at = 0; at < length; at += chunk) {
      scope(() => {
        const tokens = tensor(backend, ids, [1, chunk]);
        model.forward(tokens, { state, into: state, logits: "last", dtype });
      });
      // A reader of a long text waits for each chunk; so that enqueued work does not pile up.
      await backend.synchronize();
    }
    times.push(performance.now() - start);
  }
  const ms = times.sort((a, b) => a - b)[0]!;
  const taken = (freeBefore - backend.cuda.native.memInfo()[0]) / 2 ** 20;
  console.log(
    `${length} tokens: ${((1000 * ms) / length).toFixed(3)} us a token, ${Math.round((1000 * length) / ms)} tokens/s, ${taken.toFixed(0)} MiB taken beside the weights`,
  );
}
model.dispose();
backend[Symbol.dispose]();
