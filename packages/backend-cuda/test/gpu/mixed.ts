/** Mixed precision and captured decoding on a GPU, against float64 on the CPU from the same weights: `node mixed.mjs`. */
import { createBackend as createCpu } from "@mamba-ts/backend-cpu";
import { Mamba } from "@mamba-ts/mamba";
import { cast, keep, Rng, reshape, sample, scope, type Tensor, tensor, valueAndGrad } from "@mamba-ts/tensor";
import { languageModelLoss } from "@mamba-ts/train";
import { createBackend } from "../../src/index.js";

const nativeFolder = process.env["MAMBA_TS_CUDA_NATIVE"];
const backend = await createBackend({ poison: true, ...(nativeFolder === undefined ? {} : { nativeFolder }) });
const { cuda } = backend;
const cpu = await createCpu();
console.log(backend.device);
let failed = 0;
function check(what: string, ok: boolean, detail: string): void {
  if (!ok) failed++;
  console.log(`${ok ? "ok    " : "FAILED"} ${what}: ${detail}`);
}
function distance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [difference, size] = [0, 0];
  for (let i = 0; i < b.length; i++) {
    difference += (a[i]! - b[i]!) ** 2;
    size += b[i]! ** 2;
  }
  return a.length === b.length ? Math.sqrt(difference / (size || 1)) : Number.NaN;
}

const config = { dModel: 128, nLayer: 3, vocabSize: 320, dState: 16 };
const [batch, length] = [2, 75];
const rng = new Rng(3);
const rows = Array.from({ length: batch }, () => Int32Array.from(rng.integers(length + 1, config.vocabSize)));

/** A model with the same weights, rounded to bf16 where they would be stored so. */
async function model(on: typeof backend | typeof cpu, dtype: "bf16" | "float32" | "float64"): Promise<Mamba> {
  const drawn = Mamba.create(config, { backend: cpu, seed: 5, dtype: "bf16" });
  const made = new Mamba(config);
  const sources = drawn.parameters();
  for (const [i, p] of made.parameters().entries()) {
    const data = Float64Array.from((await sources[i]!.value.data()) as Float32Array);
    const type = dtype === "float64" ? "float64" : p.dtypeIn(dtype);
    p.value = scope(() => cast(tensor(on, data, p.shape, dtype === "float64" ? "float64" : "float32"), type));
  }
  drawn.dispose();
  return made;
}

const exact = await model(cpu, "float64");
const half = await model(backend, "bf16");
const master = await model(backend, "float32");

{
  const wide = await scope(() => keep(exact.forward(rows).logits!)).data();
  for (const [name, m] of [
    ["bf16 weights", half],
    ["float32 weights", master],
  ] as const) {
    const { logits, state, hidden } = m.forward(rows, { dtype: "bf16" });
    hidden.dispose();
    const d = distance(await logits!.data(), wide);
    check(`logits, ${name}, bf16 activations`, d < 2e-2, d.toExponential(2));
    logits!.dispose();
    state.dispose();
  }
}
{
  const gradientsOf = async (m: Mamba, dtype: "bf16" | undefined) => {
    const parameters = m.parameters();
    const run = () => {
      const { value, gradients } = valueAndGrad(
        () => ({ loss: languageModelLoss(m, { tokens: rows }, { dtype }).loss }),
        parameters.map((p) => p.value),
      );
      return { loss: value.loss, gradients };
    };
    const { loss, gradients } = scope(run);
    const data = [];
    for (const g of gradients) data.push(await g.data());
    const result = { loss: await loss.item(), data, dtypes: gradients.map((g) => g.dtype) };
    for (const t of [loss, ...gradients]) t.dispose();
    return result;
  };
  const truth = await gradientsOf(exact, undefined);
  for (const [name, m] of [
    ["bf16 weights", half],
    ["float32 weights", master],
  ] as const) {
    const got = await gradientsOf(m, "bf16");
    check(`loss, ${name}`, Math.abs(got.loss - truth.loss) < 2e-3 * truth.loss, `${got.loss} and ${truth.loss}`);
    const all = [...exact.namedParameters()].map(([n], i) => [n, distance(got.data[i]!, truth.data[i]!)] as const);
    const worst = all.reduce((a, b) => (b[1] > a[1] || Number.isNaN(b[1]) ? b : a));
    check(`gradients, ${name}`, worst[1] < 5e-2, `the worst is ${worst[0]}: ${worst[1].toExponential(2)}`);
  }
  const wide = await gradientsOf(master, undefined);
  const worst = Math.max(...wide.data.map((g, i) => distance(g, truth.data[i]!)));
  check("gradients, float32 throughout", worst < 1e-4, worst.toExponential(2));
}
for (const b of [1, 3, 64])
  for (const [name, m] of [
    ["bf16", half],
    ["float32", master],
  ] as const) {
    const prompt = Array.from({ length: b }, (_, i) => rows[i % batch]!.map((t) => (t + i) % config.vocabSize));
    const dtype = name === "bf16" ? ("bf16" as const) : undefined;
    const whole = m.forward(
      prompt.map((row) => row.subarray(0, 12)),
      { logits: "last", dtype },
    );
    whole.hidden.dispose();
    const state = m.createState(b);
    const tokens: Tensor = tensor(backend, new Int32Array(b));
    const step = (): Tensor =>
      scope(() => m.forward(reshape(tokens, [b, 1]), { state, into: state, logits: "last", dtype }).logits!);
    let last: Tensor | undefined;
    for (let t = 0; t < 12; t++) {
      last?.dispose();
      backend.write(
        tokens.buf,
        Int32Array.from(prompt, (row) => row[t]!),
      );
      last = step();
    }
    const d = distance(await last!.data(), await whole.logits!.data());
    check(`step = forward, ${name}, batch ${b}`, d < (name === "bf16" ? 2e-2 : 1e-5), d.toExponential(2));
    whole.logits!.dispose();
    whole.state.dispose();
    last!.dispose();
    // Eight tokens more, the drawn one read by the next step: once as they come, once as a graph.
    const draw = (): Tensor =>
      scope(() => {
        const { token, logprob } = sample(reshape(step(), [b, config.vocabSize]), { temperature: 0 });
        cuda.native.copy(cuda.own(tokens.buf).pointer, cuda.own(token.buf).pointer, 4 * b);
        return logprob;
      });
    const before = await state.save();
    const run = async (how: () => Tensor): Promise<string> => {
      const seen: string[] = [];
      for (let t = 0; t < 8; t++) {
        const logprob = how();
        seen.push(`${[...(await tokens.data())]} ${[...(await logprob.data())]}`);
        if (how === eager) logprob.dispose();
      }
      return seen.join("\n");
    };
    const eager = draw;
    const first = await run(eager);
    const eagerState = Buffer.from(await state.save()).toString("base64");
    const restored = await m.restoreState(before);
    for (const [k, layer] of state.layers.entries())
      for (const part of ["conv", "ssm"] as const) {
        const [to, from] = [cuda.own(layer[part].buf), cuda.own(restored.layers[k]![part].buf)];
        cuda.native.copy(to.pointer, from.pointer, to.byteLength);
      }
    restored.dispose();
    backend.write(
      tokens.buf,
      Int32Array.from(prompt, (row) => row[11]!),
    );
    // The eager run began with the token before, too.
    let result: Tensor | undefined;
    const snapshot = await state.clone();
    const graph = backend.capture!(() => {
      result = draw();
    });
    for (const [k, layer] of state.layers.entries())
      for (const part of ["conv", "ssm"] as const) {
        const [to, from] = [cuda.own(layer[part].buf), cuda.own(snapshot.layers[k]![part].buf)];
        cuda.native.copy(to.pointer, from.pointer, to.byteLength);
      }
    snapshot.dispose();
    backend.write(
      tokens.buf,
      Int32Array.from(prompt, (row) => row[11]!),
    );
    const second = await run(() => {
      graph.replay();
      return result!;
    });
    const graphState = Buffer.from(await state.save()).toString("base64");
    check(
      `graph = eager, ${name}, batch ${b}`,
      first === second && eagerState === graphState,
      "bit for bit, state too",
    );
    result!.dispose();
    graph[Symbol.dispose]();
    tokens.dispose();
    state.dispose();
  }
{
  // Ties, zeros of both signs, infinities and NaN over several of a kernel's parts of 2,048 logits.
  const vocab = 5000;
  const noise = rng.normal(vocab);
  const places: readonly (readonly [at: number, value: number])[][] = [
    [
      [17, 9],
      [4097, 9],
      [2050, 9],
    ],
    [
      [3000, Number.NaN],
      [4100, Number.NaN],
    ],
    [
      [2047, Number.POSITIVE_INFINITY],
      [2048, Number.POSITIVE_INFINITY],
    ],
  ];
  const logits = [
    ...places.map((some) => {
      const row = Float32Array.from(noise);
      for (const [at, value] of some) row[at] = value;
      return row;
    }),
    Float32Array.from({ length: vocab }, (_, i) => (i < 4500 ? (i % 2 === 0 ? -0 : 0) : -1)),
    new Float32Array(vocab).fill(Number.NEGATIVE_INFINITY),
  ];
  const drawn: string[] = [];
  for (const on of [backend, cpu]) {
    const x = tensor(on, Float32Array.from(logits.flatMap((row) => [...row])), [logits.length, vocab]);
    const { token, logprob } = sample(x, { temperature: 0 });
    drawn.push(`${await token.data()}`);
    for (const t of [x, token, logprob]) t.dispose();
  }
  check("the largest logit, ties and NaN", drawn[0] === drawn[1], `${drawn[0]} and ${drawn[1]}`);
}
for (const m of [exact, half, master]) m.dispose();
const { liveBuffers } = backend.memory();
console.log(`${failed} failed, ${liveBuffers} buffers live`);
backend[Symbol.dispose]();
process.exitCode = failed + liveBuffers > 0 ? 1 : 0;
