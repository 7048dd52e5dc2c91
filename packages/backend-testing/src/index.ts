export * from "./cases.js";
export { type ConformanceOptions, describeBackend } from "./describe-backend.js";
