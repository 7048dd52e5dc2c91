export {
  type Batch,
  type BatchSource,
  byteTokens,
  contiguousWindows,
  memoryTokens,
  randomWindows,
  type TokenSource,
  type WindowOptions,
} from "./data.js";
export { evaluate, type EvaluateOptions, type Evaluation } from "./evaluate.js";
export { languageModelLoss, type LossResult } from "./loss.js";
export type { CarriedState, LanguageModel } from "./model.js";
export { AdamW, type AdamWOptions } from "./optimizer.js";
export { constantSchedule, type CosineOptions, cosineSchedule, type Schedule } from "./schedule.js";
export { squaredNorm } from "./squared-norm.js";
export { type StepReport, Trainer, type TrainerOptions } from "./trainer.js";
