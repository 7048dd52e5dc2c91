export { type JambaConfig, type LayerType, type ResolvedJambaConfig, resolveJambaConfig } from "./config.js";
export {
  Jamba,
  JambaBackbone,
  type JambaForwardOptions,
  type JambaForwardResult,
  JambaLayer,
  SwiGlu,
} from "./model.js";
export { isCache, JambaState, type LayerMemory, type Runs } from "./state.js";
