/** What the page and its worker say to each other. The worker does one thing at a time; `stop` ends the one that is going on. */
export type Request =
  | { readonly type: "load"; readonly from: ModelSource }
  | {
      readonly type: "generate";
      readonly prompt: string;
      readonly temperature: number;
      readonly maxTokens: number;
      readonly seed: number;
    }
  | { readonly type: "select"; readonly text: string }
  | {
      readonly type: "train";
      readonly text: string;
      readonly dModel: number;
      readonly nLayer: number;
      readonly steps: number;
    }
  | { readonly type: "save" }
  | { readonly type: "stop" };

export type ModelSource =
  | { readonly kind: "shipped"; readonly base: string }
  | { readonly kind: "hub"; readonly name: string }
  | { readonly kind: "files"; readonly config: string; readonly weights: Blob };

export type Reply =
  | { readonly type: "device"; readonly name: string; readonly backend: string; readonly note?: string }
  | {
      readonly type: "model";
      readonly name: string;
      readonly parameters: number;
      readonly nLayer: number;
      readonly stateBytes: number;
      /** What a transformer of the same width and depth would add to its cache with every token, in float32. */
      readonly cacheBytesPerToken: number;
    }
  | { readonly type: "loading"; readonly done: number; readonly total: number }
  /** The device's kernels are made ahead of the work that needs them. */
  | { readonly type: "compiling"; readonly work: "writing" | "training"; readonly done: number; readonly total: number }
  | { readonly type: "token"; readonly text: string; readonly tokens: number; readonly seconds: number }
  | { readonly type: "generated"; readonly tokens: number; readonly seconds: number }
  | { readonly type: "selection"; readonly tokens: readonly string[]; readonly layers: readonly LayerSelection[] }
  | { readonly type: "step"; readonly step: number; readonly bitsPerByte: number; readonly seconds: number }
  | { readonly type: "trained"; readonly steps: number }
  | { readonly type: "saved"; readonly bytes: Uint8Array<ArrayBuffer>; readonly config: string }
  /** What the worker has loaded so far, for use without a network. */
  | { readonly type: "resources"; readonly urls: readonly string[] }
  | { readonly type: "idle" }
  | { readonly type: "error"; readonly message: string };

/** Per token of the text, means over the layer's channels. */
export interface LayerSelection {
  readonly delta: readonly number[];
  readonly gate: readonly number[];
}
