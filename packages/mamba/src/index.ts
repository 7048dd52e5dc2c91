export { type MambaConfig, type ResolvedMambaConfig, resolveConfig } from "./config.js";
export {
  type ForwardOptions,
  type ForwardResult,
  Mamba,
  MambaBackbone,
  MambaBlock,
  MambaMixer,
  type SegmentState,
  SelectiveSsm,
} from "./model.js";
export type { SegmentIds } from "./segments.js";
export { type LayerState, MambaState } from "./state.js";
export type { TokenInput } from "./tokens.js";
