export { type JambaConfig, type LayerType, type ResolvedJambaConfig, resolveJambaConfig } from "./config.js";
export type { JambaForwardOptions, JambaForwardResult } from "./forward.js";
export {
  Jamba,
  JambaBackbone,
  JambaLayer,
  SwiGlu,
} from "./model.js";
export { isCache, JambaState, type LayerMemory, type Runs } from "./state.js";
