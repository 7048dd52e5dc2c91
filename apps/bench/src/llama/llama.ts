/** llama.cpp through node-llama-cpp, from a folder of its own: it is 85 MB, and no dependency of this repository. */
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { InvalidArgumentError } from "@mamba-ts/backend";

interface Evaluated {
  readonly next?: { readonly probabilities?: ReadonlyMap<number, number> };
}
interface Sequence {
  controlledEvaluate(
    input: readonly (number | readonly [number, { readonly generateNext: { readonly probabilities: true } }])[],
  ): Promise<readonly (Evaluated | undefined)[]>;
  evaluateWithoutGeneratingNewTokens(tokens: readonly number[]): Promise<void>;
  dispose(): void;
}
interface LlamaContext {
  getSequence(): Sequence;
  dispose(): Promise<void>;
}
export interface LlamaModel {
  tokenize(text: string): readonly number[];
  createContext(options: object): Promise<LlamaContext>;
  dispose(): Promise<void>;
}
export interface Llama {
  readonly llamaCppRelease: { readonly release: string };
  loadModel(options: { readonly modelPath: string; readonly gpuLayers: 0 }): Promise<LlamaModel>;
}

interface Run {
  readonly name: string;
  run(): Promise<void>;
}

export const install =
  "npm install --ignore-scripts --omit=optional node-llama-cpp@3.22.1 @node-llama-cpp/linux-x64@3.22.1";

/** @param folder - where node-llama-cpp is installed. Throws InvalidArgumentError where it is not. */
export async function openLlama(folder: string | undefined, threads: number): Promise<Llama> {
  const missing = (cause?: unknown): never => {
    throw new InvalidArgumentError("node-llama-cpp is not there: set LLAMA_CPP to the folder it is installed in", {
      hint: `in an empty folder: ${install}`,
      cause,
    });
  };
  if (folder === undefined) return missing();
  let path: string;
  try {
    path = createRequire(join(folder, "package.json")).resolve("node-llama-cpp");
  } catch (cause) {
    return missing(cause);
  }
  const { getLlama } = (await import(pathToFileURL(path).href)) as { getLlama(options: object): Promise<Llama> };
  return getLlama({ gpu: false, build: "never", logLevel: "error", maxThreads: threads });
}

/** A prompt and single steps, of fixed tokens, without sampling and, in all but name, without logits. */
export async function llamaRuns(
  llama: Llama,
  path: string,
  { prompt, steps }: { readonly prompt: number; readonly steps: number },
): Promise<{ readonly prefill: Run; readonly decode: Run; dispose(): Promise<void> }> {
  const model = await llama.loadModel({ modelPath: path, gpuLayers: 0 });
  const context = await model.createContext({ contextSize: 8192, batchSize: 512 });
  const tokens = Array.from({ length: prompt }, (_, i) => (37 * i) % 256);
  let sequence = context.getSequence();
  const fresh = (): void => {
    sequence.dispose();
    sequence = context.getSequence();
  };
  return {
    prefill: {
      name: "llama.cpp",
      run: async () => {
        fresh();
        await sequence.evaluateWithoutGeneratingNewTokens(tokens);
      },
    },
    decode: {
      name: "llama.cpp",
      run: async () => {
        for (const token of tokens.slice(0, steps)) await sequence.evaluateWithoutGeneratingNewTokens([token]);
      },
    },
    async dispose() {
      await context.dispose();
      await model.dispose();
    },
  };
}

/** Log-probabilities after every token, [tokens.length][vocabSize]. */
export async function llamaLogProbabilities(
  llama: Llama,
  path: string,
  tokens: readonly number[],
): Promise<Float64Array[]> {
  const model = await llama.loadModel({ modelPath: path, gpuLayers: 0 });
  const context = await model.createContext({ contextSize: 512, batchSize: 512 });
  try {
    const sequence = context.getSequence();
    const wanted = tokens.map((token) => [token, { generateNext: { probabilities: true } }] as const);
    const evaluated = await sequence.controlledEvaluate(wanted);
    return evaluated.map((each) => {
      const probabilities = each!.next!.probabilities!;
      return Float64Array.from({ length: probabilities.size }, (_, token) => Math.log(probabilities.get(token)!));
    });
  } finally {
    await context.dispose();
    await model.dispose();
  }
}
