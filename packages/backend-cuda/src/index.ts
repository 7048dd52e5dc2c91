export { type CudaBackend, type CudaBackendOptions, createBackend } from "./backend.js";
