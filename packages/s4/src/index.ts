export {
  type ResolvedS4Config,
  type ResolvedS4LayerConfig,
  resolveConfig,
  resolveLayerConfig,
  type S4Config,
  type S4Head,
  type S4LayerConfig,
} from "./config.js";
export { type KernelStep, S4Kernel } from "./kernel.js";
export { S4Convolution, S4Layer, type S4LayerOptions, type S4LayerResult, type S4Mode } from "./layer.js";
export { isStateParameter, type S4ForwardOptions, type S4ForwardResult, S4Model, S4Steps } from "./model.js";
export { S4State } from "./state.js";
