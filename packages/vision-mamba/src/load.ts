export { loadVisionMamba, loadVisionMambaFrom, type ResizeOptions, visionMambaTensors } from "./load-vision-mamba.js";
export { isVisionMamba, parseVimConfig, toVimConfig } from "./vim-config.js";
