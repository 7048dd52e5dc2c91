export { detectNaming, type Naming, namings } from "./checkpoint-names.js";
export { parseConfig, toTransformersConfig } from "./hf-config.js";
export { type LoadOptions, type LoadProgress, loadMambaFrom } from "./load-source.js";
export { mambaTensors } from "./save.js";
