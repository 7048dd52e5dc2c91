/** The model lives here, so that the page never waits for it. */
import { type Backend, InvalidArgumentError, isMambaError } from "@mamba-ts/backend";
import { ByteTokenizer } from "@mamba-ts/byte-io";
import { encodeSafetensors } from "@mamba-ts/checkpoint";
import { generate } from "@mamba-ts/generate";
import { Mamba } from "@mamba-ts/mamba";
import { mambaTensors } from "@mamba-ts/mamba/load";
import { reshape, sample, scope, valueAndGrad } from "@mamba-ts/tensor";
import { AdamW, cosineSchedule, languageModelLoss, memoryTokens, randomWindows, Trainer } from "@mamba-ts/train";
import { type LoadedModel, loadModel } from "./models.js";
import type { ModelSource, Reply, Request } from "./protocol.js";
import { selectionOf } from "./selection.js";

const port = self as unknown as {
  postMessage(message: Reply, transfer?: Transferable[]): void;
  onmessage: ((event: { data: Request }) => void) | null;
};
const say = (reply: Reply): void => port.postMessage(reply);

let backend: Backend | undefined;
/** Of a backend whose kernels are compiled for the device. */
let warmUp: typeof import("@mamba-ts/backend-webgpu").warmUp | undefined;
let loaded: LoadedModel | undefined;
/** To load the model again where a device was lost. */
let source: ModelSource | undefined;
let current = new AbortController();

async function openBackend(note?: string): Promise<Backend> {
  const about = (opened: Backend, why?: string): Backend => {
    const said = [note, why].filter((part) => part !== undefined).join(" ");
    say({ type: "device", name: opened.device, backend: opened.name, ...(said === "" ? {} : { note: said }) });
    return opened;
  };
  const onProcessor = async (why: string): Promise<Backend> => {
    const note = `${why}; the processor does the work.`;
    if (self.name !== "cpu") {
      try {
        const { createBackend } = await import("@mamba-ts/backend-wasm");
        return about(await createBackend(), note);
      } catch (error) {
        if (!isMambaError(error, "unsupported")) throw error;
      }
    }
    const { createBackend } = await import("@mamba-ts/backend-cpu");
    return about(await createBackend(), note);
  };
  if (self.name !== "best") return onProcessor("As the page's address asks");
  // Asked before the backend is loaded: a browser without WebGPU needs none of its kernels.
  const gpu = (navigator as { readonly gpu?: GPU }).gpu;
  if (gpu === undefined) return onProcessor("this browser has no WebGPU");
  if ((await gpu.requestAdapter()) === null) return onProcessor("WebGPU finds no adapter here");
  try {
    const webgpu = await import("@mamba-ts/backend-webgpu");
    const opened = await webgpu.createBackend();
    ({ warmUp } = webgpu);
    return about(opened);
  } catch (error) {
    if (!isMambaError(error, "unsupported")) throw error;
    return onProcessor(error.message.split("\n")[0]!);
  }
}

function announce({ name, model }: LoadedModel): void {
  const { nLayer, dModel } = model.config;
  using state = model.createState(1);
  say({
    type: "model",
    name,
    parameters: model.parameterCount,
    nLayer,
    stateBytes: state.bytes,
    cacheBytesPerToken: 2 * nLayer * dModel * 4,
  });
}

/** Compiles what `run` needs, and says how far it is: what comes after does not stop for it. */
async function compileFor(work: "writing" | "training", run: () => void, signal: AbortSignal): Promise<void> {
  const onProgress = ({ done, total }: { readonly done: number; readonly total: number }): void =>
    say({ type: "compiling", work, done, total });
  await warmUp?.(backend!, () => scope(run), { signal, onProgress });
}

/** A short prompt and a token, as `generate` has them. */
async function compileForWriting({ model }: LoadedModel, signal: AbortSignal): Promise<void> {
  const run = (): void => {
    using state = model.createState(1);
    for (const ids of [[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], [0]]) {
      const { logits } = model.forward([ids], { state, into: state, logits: "last" });
      sample(reshape(logits!, [1, -1]), { temperature: 0.7, topP: 0.95, seed: 0, counter: 0 });
    }
  };
  await compileFor("writing", run, signal);
}

async function load(from: ModelSource, signal: AbortSignal): Promise<void> {
  const next = await loadModel(from, backend!, signal, (done, total) => say({ type: "loading", done, total }));
  try {
    await compileForWriting(next, signal);
  } catch (error) {
    next.model.dispose();
    throw error;
  }
  loaded?.model.dispose();
  loaded = next;
  source = from;
  announce(loaded);
  say({ type: "resources", urls: performance.getEntriesByType("resource").map(({ name }) => name) });
}

function expectModel(): LoadedModel {
  if (loaded === undefined) throw new InvalidArgumentError("load a model first");
  return loaded;
}

async function write(request: Request & { type: "generate" }, signal: AbortSignal): Promise<void> {
  const { model, tokenizer } = expectModel();
  const start = performance.now();
  const seconds = (): number => (performance.now() - start) / 1000;
  let tokens = 0;
  const { prompt, temperature, maxTokens, seed } = request;
  for await (const { text } of generate(model, tokenizer, prompt, { temperature, maxTokens, seed, topP: 0.95, signal }))
    say({ type: "token", text, tokens: ++tokens, seconds: seconds() });
  say({ type: "generated", tokens, seconds: seconds() });
}

async function select(text: string): Promise<void> {
  const { model, tokenizer } = expectModel();
  const ids = Array.from(tokenizer.encode(text)).slice(-400);
  if (ids.length === 0) throw new InvalidArgumentError("there is no text to look at");
  const decoder = tokenizer.streamDecoder();
  const tokens = ids.map((id) => decoder.push(id));
  say({ type: "selection", tokens, layers: await selectionOf(model, ids) });
}

async function train({ text, dModel, nLayer, steps }: Request & { type: "train" }, signal: AbortSignal): Promise<void> {
  const tokenizer = new ByteTokenizer();
  const bytes = tokenizer.encode(text);
  const length = 128;
  if (bytes.length < length + 1)
    throw new InvalidArgumentError(`the text has ${bytes.length} bytes; ${length + 1} are the least`);
  const model = Mamba.create({ dModel, nLayer, vocabSize: 256, dState: 8, tieEmbeddings: true }, { backend: backend! });
  const name = "the model trained here";
  using trainer = new Trainer(model, {
    data: randomWindows(memoryTokens(bytes), { batch: 8, length }),
    schedule: cosineSchedule({ peak: 5e-3, total: steps, warmup: Math.min(20, steps) }),
  });
  try {
    const rows = Array.from({ length: 8 }, () => new Int32Array(length + 1));
    const run = (): void => {
      // An optimizer that is thrown away: the trainer's has made no step.
      using optimizer = new AdamW(model);
      const weights = optimizer.parameters.map((parameter) => parameter.value);
      const { gradients } = valueAndGrad(() => ({ loss: languageModelLoss(model, { tokens: rows }).loss }), weights);
      optimizer.update(gradients, 0);
    };
    await compileFor("training", run, signal);
    while (trainer.step < steps) {
      const { step, bitsPerByte, seconds } = await trainer.update(signal);
      say({ type: "step", step, bitsPerByte, seconds });
    }
  } catch (error) {
    // What has been learnt by then is kept.
    if (!signal.aborted || trainer.step === 0) {
      model.dispose();
      throw error;
    }
  }
  loaded?.model.dispose();
  loaded = { name, model, tokenizer };
  source = undefined;
  announce(loaded);
  say({ type: "trained", steps: trainer.step });
}

async function save(): Promise<void> {
  const { model } = expectModel();
  const bytes = await encodeSafetensors(mambaTensors(model), { format: "pt" });
  const { dModel, nLayer, dState, dConv, expand, dtRank, vocabSize, normEps, tieEmbeddings } = model.config;
  const config = {
    architectures: ["MambaForCausalLM"],
    model_type: "mamba",
    hidden_size: dModel,
    num_hidden_layers: nLayer,
    state_size: dState,
    conv_kernel: dConv,
    expand,
    time_step_rank: dtRank,
    vocab_size: vocabSize,
    layer_norm_epsilon: normEps,
    tie_word_embeddings: tieEmbeddings,
  };
  // The model may be loaded again from what was saved.
  const copy = new Uint8Array(bytes);
  source = { kind: "files", config: JSON.stringify(config), weights: new Blob([copy]) };
  say({ type: "saved", bytes: copy, config: JSON.stringify(config, null, 2) });
}

async function handle(request: Exclude<Request, { type: "stop" }>, signal: AbortSignal): Promise<void> {
  backend ??= await openBackend();
  if (request.type === "load") return load(request.from, signal);
  if (request.type === "generate") return write(request, signal);
  if (request.type === "select") return select(request.text);
  if (request.type === "train") return train(request, signal);
  return save();
}

/** A new device, and on it the model that was there, if it came from somewhere. */
async function recover(): Promise<void> {
  backend = await openBackend("The device was lost; this is a new one.");
  loaded = undefined;
  if (source !== undefined) await load(source, new AbortController().signal);
}

let queue = Promise.resolve();
port.onmessage = ({ data }) => {
  current.abort();
  if (data.type === "stop") return;
  const controller = (current = new AbortController());
  queue = queue.then(async () => {
    try {
      if (!controller.signal.aborted) await handle(data, controller.signal);
    } catch (error) {
      if (controller.signal.aborted) return;
      if (isMambaError(error, "device-lost"))
        await recover().catch((again: Error) => say({ type: "error", message: again.message }));
      say({ type: "error", message: (error as Error).message });
    } finally {
      if (controller === current) say({ type: "idle" });
    }
  });
};
