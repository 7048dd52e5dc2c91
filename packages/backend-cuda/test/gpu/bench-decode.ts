/** Decoding of random weights in bf16 or float32: eager and as a CUDA graph, host and device time apart, and, where the host does not hold it up, time by kernel. `node bench-decode.mjs [bf16|float32] [130m|1.4b]… [b1|b64] [profile]` */
import { reshape, sample, scope, type Tensor, tensor } from "@mamba-ts/tensor";
import { createBackend } from "../../src/index.js";
import { profile } from "./support/profile.js";
import { randomModel, shapes } from "./support/random-model.js";

const nativeFolder = process.env["MAMBA_TS_CUDA_NATIVE"];
const backend = await createBackend(nativeFolder === undefined ? {} : { nativeFolder });
const { cuda } = backend;
const [dtype = "bf16", ...given] = process.argv.slice(2) as ["bf16" | "float32", ...string[]];
const names = given.filter((name): name is keyof typeof shapes => name in shapes);
const batches = given.flatMap((name) => (/^b\d+$/.test(name) ? [Number(name.slice(1))] : []));
const big = backend.alloc(2 ** 28, "float32");
const other = backend.alloc(2 ** 28, "float32");
const copyMs = await deviceMs(() => cuda.native.copy(cuda.own(other).pointer, cuda.own(big).pointer, 2 ** 30), 10);
const bandwidth = (2 * 2 ** 30) / copyMs / 1e9;
backend.free(big);
backend.free(other);
console.log(`${backend.device}; copy ${bandwidth.toFixed(2)} TB/s`);

/** Milliseconds of the device a run, of many enqueued together: the median of 5. */
async function deviceMs(run: () => void, runs: number): Promise<number> {
  const times: number[] = [];
  for (let k = 0; k < 6; k++) {
    const start = cuda.native.record();
    for (let i = 0; i < runs; i++) run();
    const end = cuda.native.record();
    await backend.synchronize();
    if (k > 0) times.push(cuda.native.elapsed(start, end) / runs);
  }
  return times.sort((a, b) => a - b)[2]!;
}

for (const name of names.length > 0 ? names : (["130m", "1.4b"] as const)) {
  const config = shapes[name];
  const model = randomModel(config, backend, dtype);
  const weightBytes = model.parameters().reduce((n, p) => n + cuda.own(p.value.buf).byteLength, 0);
  for (const batch of batches.length > 0 ? batches : [1, 64]) {
    using state = model.createState(batch);
    const tokens: Tensor = tensor(
      backend,
      Int32Array.from({ length: batch }, (_, i) => 65 + i),
    );
    const stateBytes = 2 * state.bytes;
    /** A token a row, which the next step reads. */
    const step = (): void =>
      scope(() => {
        const { logits } = model.forward(reshape(tokens, [batch, 1]), { state, into: state, logits: "last", dtype });
        const { token } = sample(reshape(logits!, [batch, config.vocabSize]), { temperature: 0 });
        cuda.native.copy(cuda.own(tokens.buf).pointer, cuda.own(token.buf).pointer, 4 * batch);
      });
    for (let i = 0; i < 3; i++) step();
    await backend.synchronize();
    const start = performance.now();
    for (let i = 0; i < 10; i++) step();
    const hostMs = (performance.now() - start) / 10;
    await backend.synchronize();
    const eagerMs = (performance.now() - start) / 10;
    const graph = backend.capture!(step);
    const graphMs = await deviceMs(() => graph.replay(), 50);
    const rate = (ms: number): string => `${Math.round((1000 * batch) / ms)} tokens/s (${ms.toFixed(3)} ms)`;
    const bound = (weightBytes + stateBytes) / bandwidth / 1e9;
    console.log(
      `${name} ${dtype} batch ${batch}: eager ${rate(eagerMs)}, host alone ${hostMs.toFixed(3)} ms; graph ${rate(graphMs)}, ${((100 * bound) / graphMs).toFixed(0)} % of the bound of reading weights and states (${bound.toFixed(3)} ms)`,
    );
    graph[Symbol.dispose]();
    if (given.includes("profile")) await profile(backend, step);
    tokens.dispose();
  }
  model.dispose();
}
console.log(`${backend.memory().liveBuffers} buffers live`);
backend[Symbol.dispose]();
