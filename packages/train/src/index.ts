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
export { type EvaluateOptions, type Evaluation, evaluate } from "./evaluate.js";
export { type GradientStepOptions, gradientStep } from "./gradient-step.js";
export { type LossResult, languageModelLoss } from "./loss.js";
export type { CarriedState, LanguageModel } from "./model.js";
export { AdamW, type AdamWOptions, type ParameterGroup } from "./optimizer.js";
export { type CosineOptions, constantSchedule, cosineSchedule, type Schedule } from "./schedule.js";
export { squaredNorm } from "./squared-norm.js";
export { type StepReport, Trainer, type TrainerOptions } from "./trainer.js";
