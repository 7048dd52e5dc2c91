export {
  MambaBlock,
  type MambaParts,
  makeNorm,
  normalise,
  residualMamba,
  type Stream,
  streamValue,
} from "./block.js";
export { type MambaConfig, type ResolvedMambaConfig, resolveConfig } from "./config.js";
export type { ForwardOptions, ForwardResult, SegmentState } from "./forward.js";
export { MambaMixer, type ScanInputs, SelectiveSsm } from "./mixer.js";
export { Mamba, MambaBackbone } from "./model.js";
export { lastRealTokens, planSegments, type SegmentIds, type SegmentPlan } from "./segments.js";
export { type LayerState, MambaState } from "./state.js";
export { type TokenInput, tokenTensor } from "./tokens.js";
