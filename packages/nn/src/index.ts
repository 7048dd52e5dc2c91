export * from "./initialisers.js";
export { CausalConv1d, type ConvOptions, Embedding, LayerNorm, Linear, type LinearOptions, RmsNorm } from "./layers.js";
export { Module } from "./module.js";
export { Parameter, type ParameterOptions } from "./parameter.js";
