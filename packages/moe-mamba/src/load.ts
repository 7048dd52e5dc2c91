export {
  loadMoEMamba,
  loadMoEMambaFrom,
  moeMambaConfigText,
  moeMambaTensors,
  parseMoEMambaConfig,
} from "./load-moe-mamba.js";
