export { Attention, type AttentionCall, type AttentionOptions, type KvCache } from "./attention.js";
export * from "./initialisers.js";
export { CausalConv1d, type ConvOptions, Embedding, LayerNorm, Linear, type LinearOptions, RmsNorm } from "./layers.js";
export { Module, type Recompute } from "./module.js";
export { MoE, type MoECall, type MoEOptions, type Routing } from "./moe.js";
export { nonFiniteParameters } from "./non-finite.js";
export { Parameter, type ParameterOptions } from "./parameter.js";
export { droppedChoices, expertCounts, loadBalancingLoss, routerZLoss } from "./router-losses.js";
