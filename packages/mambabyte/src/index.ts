export { BytePairs, isWordBoundary } from "./byte-pairs.js";
export {
  countWords,
  createMambaByte,
  type MambaByteConfig,
  type MambaByteSize,
  mambaByteConfig,
  mambaByteSizes,
  wordPerplexity,
} from "./model.js";
export { SubwordDrafter, type SubwordDrafterOptions } from "./subword-drafter.js";
