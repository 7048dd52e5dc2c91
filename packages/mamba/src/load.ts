export { detectNaming, type Naming, namings } from "./checkpoint-names.js";
export { parseConfig, toStateSpacesConfig, toTransformersConfig, transformersConfigText } from "./hf-config.js";
export { type LoadedMamba, type LoadMambaOptions, loadMamba } from "./load-mamba.js";
export { type LoadOptions, type LoadProgress, loadMambaFrom } from "./load-source.js";
export { mambaTensors } from "./save.js";
export { jsonTokenizer, type TextTokenizer } from "./tokenizer.js";
