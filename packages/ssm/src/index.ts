export { type AffineSteps, associativeScan } from "./associative-scan.js";
export {
  type ConvArguments,
  type ConvGradients,
  type ConvResult,
  causalConv1d,
  causalConv1dGradient,
} from "./causal-conv1d.js";
export { type DiscreteStep, type Discretization, discretize, expm1Over } from "./discretization.js";
export { SsmError } from "./errors.js";
export { inverseSoftplus, sigmoid, silu, siluDerivative, softplus, softplusDerivative } from "./functions.js";
export { type DeltaInitOptions, deltaBias, s4dReal } from "./initialisation.js";
export type { ScanArguments, ScanShape } from "./scan-arguments.js";
export { type ScanResult, selectiveScan, selectiveScanChunked, selectiveScanParallel } from "./selective-scan.js";
export { type ScanGradients, selectiveScanGradient } from "./selective-scan-gradient.js";
