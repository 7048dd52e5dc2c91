import { createBackend as createCpu } from "@mamba-ts/backend-cpu";
import { Mamba, type MambaState } from "@mamba-ts/mamba";
import { Rng, reshape, rfft, sample, scope, type Tensor, tensor, valueAndGrad } from "@mamba-ts/tensor";
import { languageModelLoss } from "@mamba-ts/train";
import type { CudaBackend } from "../../../src/index.js";

const config = { dModel: 128, nLayer: 2, vocabSize: 96, dState: 16 };
const ids = (seed: number, length: number): Int32Array =>
  Int32Array.from(new Rng(seed).integers(length, config.vocabSize));

/** A small model, the same weights on every backend. */
async function smallModel(backend: CudaBackend): Promise<Mamba> {
  const drawn = Mamba.create(config, { backend: await createCpu(), seed: 4 });
  const model = new Mamba(config);
  for (const [i, p] of model.parameters().entries())
    p.value = tensor(backend, (await drawn.parameters()[i]!.value.data()) as Float32Array, p.shape, "float32");
  drawn.dispose();
  return model;
}

function expectNothingLeft(backend: CudaBackend, before: number): void {
  const left = backend.memory().liveBuffers - before;
  if (left !== 0) throw new Error(`${left} buffers live`);
}

/**
 * What a backend gives at work: logits of `runs` prompts, one after the other, each awaited, so that others get their turn between; every gradient of a loss; a
 * Fourier transform.
 */
export async function work(backend: CudaBackend, runs = 20): Promise<Float32Array[]> {
  const before = backend.memory().liveBuffers;
  const model = await smallModel(backend);
  const found: Float32Array[] = [];
  const take = async (t: Tensor): Promise<void> => {
    found.push((await t.data()) as Float32Array);
    t.dispose();
  };
  for (let run = 0; run < runs; run++) {
    const { logits, hidden, state } = model.forward([ids(run, 300)], { logits: "last" });
    hidden.dispose();
    state.dispose();
    await take(logits!);
  }
  const parameters = model.parameters().map((p) => p.value);
  const gradients = scope(
    () =>
      valueAndGrad(() => ({ loss: languageModelLoss(model, { tokens: [ids(99, 129)] }).loss }), parameters).gradients,
  );
  for (const gradient of gradients) await take(gradient);
  const signal = tensor(backend, Float32Array.from(new Rng(7).normal(3 * 210)), [3, 210], "float32");
  await take(scope(() => rfft(signal)));
  signal.dispose();
  model.dispose();
  expectNothingLeft(backend, before);
  return found;
}

/** Greedy decoding, by a recorded step or by running it each time: tokens and their log probabilities, each step awaited. */
export async function decode(backend: CudaBackend, isRecorded: boolean, steps = 24): Promise<Float32Array[]> {
  const before = backend.memory().liveBuffers;
  const model = await smallModel(backend);
  const { cuda } = backend;
  const [state, unused] = [model.createState(1), model.createState(1)];
  const token = tensor(backend, Int32Array.of(5));
  const logprob = tensor(backend, Float32Array.of(0));
  const step = (state: MambaState): void =>
    scope(() => {
      const { logits } = model.forward(reshape(token, [1, 1]), { state, into: state, logits: "last" });
      const drawn = sample(reshape(logits!, [1, config.vocabSize]), { temperature: 0 });
      for (const [to, from] of [
        [token, drawn.token],
        [logprob, drawn.logprob],
      ] as const)
        cuda.native.copy(cuda.own(to.buf).pointer, cuda.own(from.buf).pointer, 4);
    });
  const found: Float32Array[] = [];
  // Kernels are loaded when they are first run.
  step(unused);
  backend.write(token.buf, Int32Array.of(5));
  // Recording runs the step once.
  const graph = isRecorded ? backend.capture!(() => step(state)) : undefined;
  for (let i = 0; i < steps; i++) {
    if (graph === undefined) step(state);
    else if (i > 0) graph.replay();
    found.push(Float32Array.of((await token.data())[0]!, (await logprob.data())[0]!));
  }
  graph?.[Symbol.dispose]();
  for (const made of [state, unused, token, logprob]) made.dispose();
  model.dispose();
  expectNothingLeft(backend, before);
  return found;
}

export const sameBits = (a: readonly Float32Array[], b: readonly Float32Array[]): boolean =>
  a.length === b.length && a.every((x, i) => Buffer.from(x.buffer).equals(Buffer.from(b[i]!.buffer)));
export const allFinite = (found: readonly Float32Array[]): boolean => found.every((x) => x.every(Number.isFinite));
