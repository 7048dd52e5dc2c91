export {
  type ClassToken,
  type ResolvedVisionMambaConfig,
  resolveVisionMambaConfig,
  type VisionMambaConfig,
  visionMambaSizes,
} from "./config.js";
export { VisionMixer } from "./mixer.js";
export {
  classificationLoss,
  VisionBlock,
  type VisionFeatures,
  type VisionForwardOptions,
  VisionMamba,
} from "./model.js";
export { bicubicMatrix, interpolatePositions } from "./positions.js";
