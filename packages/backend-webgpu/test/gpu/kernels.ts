/** What each kernel takes on this device, by timestamps: decoding, a training step, the scan, large products. */
import { Mamba } from "@mamba-ts/mamba";
import {
  attention,
  cast,
  concat,
  copy,
  matmul,
  Rng,
  reshape,
  sample,
  scope,
  selectiveScan,
  sum,
  type Tensor,
  tensor,
  valueAndGrad,
} from "@mamba-ts/tensor";
import { capture } from "@mamba-ts/tensor/capture";
import { AdamW, languageModelLoss } from "@mamba-ts/train";
import type { WebGpuBuf } from "../../src/storage.js";
import { drawQuickly, openFused } from "./open.js";
import { formatProfile, Profiler } from "./profiler.js";

drawQuickly();
const { gpu, backend } = await openFused();
const what = process.argv.slice(2);
const wants = (name: string): boolean => what.length === 0 || what.includes(name);
console.log(backend.device, [...gpu.features].join(" "));
const profiler = new Profiler(gpu.device);
const flushed = async (fn: () => unknown): Promise<void> => {
  scope(() => void fn());
  await backend.synchronize();
};
const show = async (title: string, fn: () => unknown, runs = 3): Promise<void> => {
  await flushed(fn);
  await flushed(fn);
  const start = performance.now();
  for (let i = 0; i < runs; i++) scope(() => void fn());
  const enqueued = performance.now() - start;
  await backend.synchronize();
  const wall = performance.now() - start;
  console.log(`${title}: ${(wall / runs).toFixed(3)} ms each of ${runs} (host ${(enqueued / runs).toFixed(3)} ms)`);
  console.log(formatProfile(await profiler.profile(() => flushed(fn))));
};
const normal = (seed: number, shape: number[]): Tensor => {
  const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
  let x = seed;
  for (let i = 0; i < data.length; i++) {
    x = (Math.imul(x, 1664525) + 1013904223) | 0;
    data[i] = x / 2 ** 31;
  }
  return tensor(backend, data, shape, "float32");
};

if (wants("decode")) {
  const small = process.env["SMALL"] !== undefined;
  const model = Mamba.create(
    small ? { dModel: 64, nLayer: 2, vocabSize: 256 } : { dModel: 768, nLayer: 24, vocabSize: 50280 },
    { backend, seed: 1 },
  );
  const state = model.createState(1);
  const token = tensor(backend, Int32Array.of(5), [1, 1], "int32");
  const step = (): Tensor => {
    const { logits } = model.forward(token, { state, into: state, logits: "last" });
    return sample(reshape(logits!, [1, -1]), { temperature: 0 }).token;
  };
  await show("decode, eager", step, 50);
  const captured = scope(() => capture(backend, step));
  for (let i = 0; i < 5; i++) captured.replay();
  await captured.result.data();
  // Medians of blocks of tokens: the host's engine is still compiling at first, and collects garbage now and then.
  const measure = async (title: string, lag: number, blocks = 9, n = 200): Promise<void> => {
    const times: number[] = [];
    for (let block = 0; block < blocks; block++) {
      const reads: Promise<unknown>[] = [];
      const start = performance.now();
      for (let i = 0; i < n; i++) {
        captured.replay();
        reads.push(captured.result.data());
        if (reads.length > lag) await reads.shift();
      }
      await Promise.all(reads);
      times.push((performance.now() - start) / n);
    }
    times.sort((x, y) => x - y);
    const at = (part: number): number => times[Math.floor(times.length * part)]!;
    console.log(
      `decode, captured, ${title}: ${at(0.5).toFixed(3)} ms = ${(1000 / at(0.5)).toFixed(0)} tokens/s (blocks from ${at(0).toFixed(3)} to ${times.at(-1)!.toFixed(3)})`,
    );
  };
  await measure("warming up", 0, 2);
  await measure("each token read before the next", 0);
  await measure("each token read a step late", 1);
  await measure("each token read four steps late", 4);
  console.log(
    formatProfile(
      await profiler.profile(async () => {
        captured.replay();
        await backend.synchronize();
      }),
    ),
  );
  const prompt = tensor(
    backend,
    Int32Array.from({ length: small ? 64 : 2048 }, (_, i) => (i * 37) % 256),
    [1, small ? 64 : 2048],
    "int32",
  );
  await show("prefill", () => model.forward(prompt, { logits: "last" }), 5);
}
/** Random numbers in any amount: a million, again and again. */
const many = (seed: number, shape: number[]): Tensor =>
  scope(() => {
    const size = shape.reduce((a, b) => a * b, 1);
    const piece = normal(seed, [Math.min(size, 2 ** 20)]);
    return reshape(size === piece.size ? piece : concat(new Array<Tensor>(size / piece.size).fill(piece), 0), shape);
  });

if (wants("copy")) {
  const n = process.env["SMALL"] ? 2 ** 16 : 2 ** 26;
  const source = many(9, [n]);
  await show(`copy of ${4 * n} bytes`, () => copy(source));
  const [x, y] = [source.buf, backend.alloc(n, "float32")] as [WebGpuBuf, WebGpuBuf];
  const params = { count: n / 4, per_row: n / 4, run: n, x_start: 0, x_pitch: 0, y_start: 0, y_pitch: 0 };
  for (const EACH of [1, 2, 4, 8])
    await show(`${EACH} quads a thread`, () =>
      gpu.run("copy/quads", { x, y }, params, { constants: { EACH }, threads: n / 4 / EACH }),
    );
  backend.free(y);
  source.dispose();
}
if (wants("scan")) {
  // SHAPES=0,4 takes some of them.
  const shapes = [
    [8, 1536, 2048],
    [1, 1536, 16384],
    [1, 5120, 2048],
    [8, 2048, 512],
    [1, 1536, 131072],
  ] as const;
  const chosen = process.env["SHAPES"]?.split(",").map((i) => shapes[Number(i)]!) ?? shapes;
  for (const [batch, dInner, length] of process.env["SMALL"] ? ([[2, 96, 100]] as const) : chosen) {
    // The bound: a copy of what a tensor of this shape has, in the same run.
    const source = many(9, [batch, length, dInner]);
    await show(`copy of ${4 * source.size} bytes`, () => copy(source));
    source.dispose();
    const args = {
      x: many(1, [batch, length, dInner]),
      delta: many(2, [batch, length, dInner]),
      A: tensor(
        backend,
        Float32Array.from({ length: dInner * 16 }, (_, i) => -1 - (i % 16)),
        [dInner, 16],
        "float32",
      ),
      B: normal(3, [batch, length, 16]),
      C: normal(4, [batch, length, 16]),
      D: normal(5, [dInner]),
      z: many(6, [batch, length, dInner]),
      deltaBias: normal(7, [dInner]),
    };
    await show(`scan forward ${batch} ${dInner} ${length}`, () => selectiveScan({ ...args, softplus: true }).y);
    await show(`scan forward and backward ${batch} ${dInner} ${length}`, () =>
      valueAndGrad(() => ({ loss: sum(selectiveScan({ ...args, softplus: true }).y) }), Object.values(args)),
    );
    for (const t of Object.values(args)) t.dispose();
  }
}
if (wants("train")) {
  const small = process.env["SMALL"] !== undefined;
  const model = Mamba.create({ dModel: small ? 64 : 384, nLayer: small ? 2 : 9, vocabSize: 256 }, { backend, seed: 1 });
  const optimizer = new AdamW(model);
  const weights = optimizer.parameters.map((p) => p.value);
  const rng = new Rng(1);
  const rows = Array.from({ length: 8 }, () => Int32Array.from(rng.integers(small ? 65 : 1025, 256)));
  console.log(`${model.parameterCount} parameters`);
  const step = (): void => {
    const { gradients } = valueAndGrad(() => ({ loss: languageModelLoss(model, { tokens: rows }).loss }), weights);
    optimizer.update(gradients, 1e-4);
  };
  await show("training step", step);
  const times: number[] = [];
  for (let i = 0; i < (small ? 3 : 60); i++) {
    const start = performance.now();
    await flushed(step);
    times.push(performance.now() - start);
  }
  times.sort((x, y) => x - y);
  const at = (part: number): string => times[Math.floor(times.length * part)]!.toFixed(2);
  console.log(`training steps, each awaited: median ${at(0.5)} ms (quartiles ${at(0.25)} ${at(0.75)})`);
}
if (wants("attention")) {
  const n = process.env["SMALL"] ? 128 : 2048;
  const [q, k, v] = [1, 2, 3].map((seed) => many(seed, [1, n, 16, 64]));
  await show(`attention ${n}, 16 heads of 64, causal`, () => attention({ q: q!, k: k!, v: v!, causal: true }));
}
if (wants("matmul")) {
  const n = process.env["SMALL"] ? 256 : 4096;
  const [a, b] = [many(1, [n, n]), many(2, [n, n])];
  await show(`matmul ${n} NN`, () => matmul(a, b));
  await show(`matmul ${n} NT`, () => matmul(a, b, { transB: true }));
  await show(`matmul ${n} TN`, () => matmul(a, b, { transA: true }));
  const [ha, hb] = [cast(a, "f16"), cast(b, "f16")];
  await show(`matmul ${n} NN of f16`, () => matmul(ha, hb, { out: "float32" }));
  await show(`matmul ${n} NT of f16`, () => matmul(ha, hb, { transB: true, out: "float32" }));
  await show(`matmul ${n} TN of f16`, () => matmul(ha, hb, { transA: true, out: "float32" }));
}
backend[Symbol.dispose]();
process.exit(0);
