/** A long prompt read in chunks by a small Jamba: what memory it takes, and what was said of it before. */
import { Jamba, type JambaConfig, type JambaState } from "@mamba-ts/jamba";
import { scope, type Tensor } from "@mamba-ts/tensor";
import type { Context } from "../context.js";

/** A published Jamba's layers, one attention in eight, narrow enough that a processor reads 262,144 tokens in minutes. */
export const prefillConfig: JambaConfig = {
  dModel: 16,
  nLayer: 8,
  vocabSize: 256,
  dFeedForward: 32,
  nHeads: 1,
  nKvHeads: 1,
  nExperts: 4,
  topK: 2,
  dState: 8,
};

export interface Prefill {
  /** After the last token: [1, 1, vocabSize]. The caller's. */
  readonly logits: Tensor;
  readonly state: JambaState;
  /** What `stateBytes` said before anything was taken. */
  readonly estimatedBytes: number;
  /** The most that was live between two chunks, the model's weights left out. */
  readonly liveBytes: number;
}

/** Reads tokens in chunks into a state that has room for all of them from the start. */
export async function prefill(
  model: Jamba,
  tokens: Int32Array,
  chunk: number,
  onChunk: (done: number) => void = () => {},
): Promise<Prefill> {
  const { backend } = model;
  const before = backend.memory().liveBytes;
  const estimatedBytes = model.stateBytes(1, tokens.length);
  const state = model.createState(1, { capacity: tokens.length });
  let liveBytes = 0;
  for (let at = 0; ; at += chunk) {
    const end = Math.min(tokens.length, at + chunk);
    const logits = scope(
      () =>
        model.forward([tokens.subarray(at, end)], {
          state,
          into: state,
          logits: end === tokens.length ? "last" : "none",
        }).logits,
    );
    await backend.synchronize();
    liveBytes = Math.max(liveBytes, backend.memory().liveBytes - before);
    onChunk(end);
    if (logits !== undefined) return { logits, state, estimatedBytes, liveBytes };
  }
}

export function prefillTokens(length: number): Int32Array {
  return Int32Array.from({ length }, (_, i) => (i * i + (i >> 3)) % 256);
}

/** 262,144 tokens, as many as a published Jamba takes, 1,024 at a time. */
export async function jambaPrefillBench({ backend, device, emit }: Context): Promise<void> {
  const [length, chunk] = [262_144, 1024];
  using model = Jamba.create(prefillConfig, { backend, seed: 1 });
  const resident = (): number => process.memoryUsage().rss;
  let first = 0;
  let most = 0;
  const start = performance.now();
  const times = new Map<number, number>();
  const { logits, state, estimatedBytes, liveBytes } = await prefill(model, prefillTokens(length), chunk, (done) => {
    if (done === 4 * chunk) first = resident();
    most = Math.max(most, resident());
    if (Math.log2(done / chunk) % 2 === 0) times.set(done, (performance.now() - start) / 1000);
  });
  const seconds = (performance.now() - start) / 1000;
  const finite = (await logits.data()).every(Number.isFinite);
  logits.dispose();
  const stateBytes = state.bytes;
  state.dispose();
  if (!finite) throw new Error("jamba prefill: the logits are not finite");
  const data = {
    bench: "jamba prefill",
    device,
    shape: `${length} tokens, ${chunk} at a time; ${JSON.stringify(prefillConfig)}`,
    estimatedBytes,
    stateBytes,
    liveBytes,
    residentGrowthBytes: most - first,
    seconds,
    secondsAt: Object.fromEntries(times),
  };
  const mb = (n: number): string => `${(n / 1e6).toFixed(1)} MB`;
  emit(
    `jamba prefill  ${length} tokens, ${chunk} at a time: state ${mb(stateBytes)}, estimated before ${mb(estimatedBytes)}; at most ${mb(liveBytes)} live between chunks, ` +
      `the process grew by ${mb(most - first)} after the fourth; ${seconds.toFixed(1)} s`,
    data,
  );
  if (stateBytes !== estimatedBytes) process.exitCode = 1;
}
