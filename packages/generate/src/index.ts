export { generate, generateBatch } from "./generate.js";
export { StopFilter } from "./stop.js";
export type {
  EndReason,
  GeneratedToken,
  GenerateOptions,
  GenerationState,
  GenerativeModel,
  Tokenizer,
} from "./types.js";
