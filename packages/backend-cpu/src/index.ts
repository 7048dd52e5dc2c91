export { type CpuBackendOptions, createBackend, createCpuBackend } from "./backend.js";
