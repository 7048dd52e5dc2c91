export { detectNaming, ggufLayerNames, type Naming, namings } from "./checkpoint-names.js";
export { fromGguf, type GgufOptions, generalKeys, ggufTensors, mambaGguf } from "./gguf.js";
export { parseConfig, toStateSpacesConfig, toTransformersConfig, transformersConfigText } from "./hf-config.js";
export { type Loaded, type LoadedMamba, type LoadMambaOptions, loadMamba, loadWith } from "./load-mamba.js";
export { type LoadNames, type LoadOptions, type LoadProgress, loadParameters } from "./load-parameters.js";
export { loadMambaFrom, mambaConfigOf } from "./load-source.js";
export { mambaTensors } from "./save.js";
export { jsonTokenizer, type TextTokenizer } from "./tokenizer.js";
