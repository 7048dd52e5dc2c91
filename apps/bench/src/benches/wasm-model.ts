import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Backend, DType } from "@mamba-ts/backend";
import { createBackend } from "@mamba-ts/backend-wasm";
import { openCheckpoint } from "@mamba-ts/checkpoint/node";
import type { Mamba } from "@mamba-ts/mamba";
import { loadMambaFrom } from "@mamba-ts/mamba/load";
import { fromHost, scope, sum, write, zeros } from "@mamba-ts/tensor";
import { capture } from "@mamba-ts/tensor/capture";
import { type Context, deviceOf } from "../context.js";
import { type Subject, timesInTurn } from "../harness.js";
import { once } from "../inputs.js";
import { llamaRuns, openLlama } from "../llama/llama.js";
import { randomGguf } from "../llama/random-model.js";
import { nativeReader } from "../native-reader.js";

const [PROMPT, STEPS] = [512, 32];
const formats = ["float32", "bf16", "q8_0"] as const;

/**
 * Prefill and decoding at mamba-130m's shape on two threads, in three formats, beside the rate at which memory is read here and beside
 * llama.cpp on the same file. `LLAMA_CPP` names the folder that node-llama-cpp is installed in, `LLAMA_GGUF` one with files that
 * `llama-agree --keep` left; without the latter they are written first.
 */
export async function wasmModelBench(context: Context): Promise<void> {
  const given = process.env["LLAMA_GGUF"];
  const folder = given ?? mkdtempSync(join(tmpdir(), "wasm-model-"));
  const threads = 2;
  try {
    const llama =
      process.env["LLAMA_CPP"] === undefined ? undefined : await openLlama(process.env["LLAMA_CPP"], threads);
    const native = nativeReader(threads);
    for (const dtype of formats) {
      const path = join(folder, `random-${dtype}.gguf`);
      if (!existsSync(path)) {
        using backend = await createBackend();
        await randomGguf(folder, dtype, { backend });
      }
      using backend = await createBackend({ threads });
      const { config, source } = await openCheckpoint(path);
      using model = await loadMambaFrom(config, source, { backend, dtype });
      await source.close();
      const theirs = llama === undefined ? undefined : await llamaRuns(llama, path, { prompt: PROMPT, steps: STEPS });
      await compare(model, dtype, { context, backend, native, theirs });
      await theirs?.dispose();
    }
  } finally {
    if (given === undefined) rmSync(folder, { recursive: true, force: true });
  }
}

interface Sides {
  readonly context: Context;
  readonly backend: Backend;
  readonly native: (() => number) | undefined;
  readonly theirs: { readonly prefill: Subject; readonly decode: Subject } | undefined;
}

async function compare(model: Mamba, dtype: DType, { context, backend, native, theirs }: Sides): Promise<void> {
  const prompt = Array.from({ length: PROMPT }, (_, i) => (37 * i) % 256);
  const prefill: Subject = {
    name: "prefill",
    run: async () => {
      using logits = scope(() => model.forward([prompt], { logits: "last" }).logits!);
      await logits.data();
    },
  };
  // As `generate` decodes: a step is recorded once and replayed.
  using state = model.createState(1);
  using token = fromHost(backend, Int32Array.of(0), [1, 1], "int32");
  using step = capture(backend, () =>
    scope(() => model.forward(token, { state, into: state, logits: "last" }).logits!),
  );
  using logits = step.result;
  const decode: Subject = {
    name: "decode",
    run: async () => {
      for (let t = 0; t < STEPS; t++) {
        write(token, Int32Array.of(prompt[t]!));
        step.replay();
        await logits.data();
      }
    },
  };
  const rates: number[] = native === undefined ? [] : [native()];
  const subjects = [prefill, decode, reader(backend), ...(theirs ? [theirs.prefill, theirs.decode] : [])];
  const [own, ownStep, read, peer, peerStep] = await timesInTurn(subjects, context.repeats);
  if (native !== undefined) rates.push(native());
  const fastest = Math.max(READ_BYTES / (read!.median / 1000), ...rates);
  const [prefillRate, decodeRate] = [PROMPT / (own!.median / 1000), STEPS / (ownStep!.median / 1000)];
  const bytes = weightBytes(model);
  const row = {
    bench: "wasm-model",
    device: deviceOf(backend),
    dtype,
    runs: own!.runs,
    prefillTokensPerSecond: prefillRate,
    decodeTokensPerSecond: decodeRate,
    weightBytes: bytes,
    readBytesPerSecond: fastest,
    decodeFraction: (bytes * decodeRate) / fastest,
    ...(peer && {
      prefillRatio: peer.median / own!.median,
      decodeRatio: peerStep!.median / ownStep!.median,
    }),
  };
  const versus = peer
    ? `; llama.cpp ${(PROMPT / (peer.median / 1000)).toFixed(1)} and ${(STEPS / (peerStep!.median / 1000)).toFixed(1)}: ` +
      `ratios ${row.prefillRatio!.toFixed(2)} and ${row.decodeRatio!.toFixed(2)}`
    : "";
  context.emit(
    `wasm-model  dModel 768, nLayer 24, bytes, ${dtype}, 2 threads, ${row.runs} runs\n` +
      `  prefill of ${PROMPT} ${prefillRate.toFixed(1)} tokens/s, decode ${decodeRate.toFixed(1)}${versus}\n` +
      `  ${(bytes / 1e6).toFixed(0)} MB a token at ${(fastest / 1e9).toFixed(1)} GB/s ` +
      `(${native === undefined ? "no native reader: no g++" : "the fastest reader, native ones included"}): decode reaches ` +
      `${(100 * row.decodeFraction).toFixed(0)}% of that bound`,
    row,
  );
}

const READ_SHAPE = [64, 2 ** 20] as const;
const READ_BYTES = 4 * READ_SHAPE[0] * READ_SHAPE[1];

/** Reads memory that fits no cache, in as many rows as keep every thread busy. */
function reader(backend: Backend): Subject {
  const x = zeros(backend, READ_SHAPE);
  return { name: "sums of 256 MiB", run: () => once(backend, () => sum(x, 1)) };
}

/** Bytes of all weights as they are stored: what a token has to read at least. */
function weightBytes(model: Mamba): number {
  const perElement: { readonly [K in DType]?: number } = { float32: 4, bf16: 2, f16: 2, q8_0: 34 / 32 };
  return model.parameters().reduce((n, { value }) => n + perElement[value.dtype]! * value.size, 0);
}
