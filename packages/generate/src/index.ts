export {
  type DraftedToken,
  type Drafter,
  type DraftOptions,
  type DraftReport,
  generateWithDrafts,
  type VerifyingModel,
} from "./draft.js";
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
