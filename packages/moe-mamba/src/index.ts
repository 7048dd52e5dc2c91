export { type MoEMambaConfig, moeMambaSizes, type ResolvedMoEMambaConfig, resolveMoEMambaConfig } from "./config.js";
export {
  type ExpertLoad,
  MoEMamba,
  MoEMambaBackbone,
  MoEMambaBlock,
  type MoEMambaForwardOptions,
  type MoEMambaForwardResult,
} from "./model.js";
