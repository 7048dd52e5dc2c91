export { stackExperts, unstackExperts } from "./experts.js";
export { jambaConfigText, parseJambaConfig, toTransformersJambaConfig } from "./hf-config.js";
export { jambaTensors, loadJamba, loadJambaFrom } from "./load-jamba.js";
export { jambaSource } from "./names.js";
