export { createBackend, type WasmBackendOptions } from "./backend.js";
