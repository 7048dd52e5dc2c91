export { detectNaming, type Naming, namings } from "./checkpoint-names.js";
export { parseConfig, toStateSpacesConfig, toTransformersConfig, transformersConfigText } from "./hf-config.js";
export { type LoadOptions, type LoadProgress, loadMambaFrom } from "./load-source.js";
export { mambaTensors } from "./save.js";
export { type LoadedMamba, loadMamba, type LoadMambaOptions } from "./load-mamba.js";
export { jsonTokenizer, type TextTokenizer } from "./tokenizer.js";
