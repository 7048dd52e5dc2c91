export { stackExperts, unstackExperts } from "./experts.js";
export { jambaGguf } from "./gguf.js";
export { jambaConfigText, parseJambaConfig, toTransformersJambaConfig } from "./hf-config.js";
export { jambaConfigOf, jambaTensors, loadJamba, loadJambaFrom } from "./load-jamba.js";
export { jambaSource } from "./names.js";
