export { type AffineSteps, associativeScan } from "./associative-scan.js";
export { causalConv1d, causalConv1dGradient, type ConvArguments } from "./causal-conv1d.js";
export { type Discretization, type DiscreteStep, discretize, expm1Over } from "./discretization.js";
export { SsmError } from "./errors.js";
export { inverseSoftplus, sigmoid, silu, siluDerivative, softplus, softplusDerivative } from "./functions.js";
export { deltaBias, type DeltaInitOptions, s4dReal } from "./initialisation.js";
export {
  type ScanArguments,
  type ScanResult,
  type ScanShape,
  selectiveScan,
  selectiveScanChunked,
  selectiveScanParallel,
} from "./selective-scan.js";
export { type ScanGradients, selectiveScanGradient } from "./selective-scan-gradient.js";
