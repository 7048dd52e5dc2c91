export * from "./backend.js";
export * from "./dtype.js";
export * from "./errors.js";
export * from "./fused.js";
export * from "./primitives.js";
