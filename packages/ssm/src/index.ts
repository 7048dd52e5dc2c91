export { type AffineSteps, associativeScan } from "./associative-scan.js";
export { dplrKernel, truncatedDplrKernel } from "./cauchy.js";
export {
  type ConvArguments,
  type ConvGradients,
  type ConvResult,
  causalConv1d,
  causalConv1dGradient,
} from "./causal-conv1d.js";
export {
  type Complex,
  type ComplexArray,
  complexArray,
  fromInterleaved,
  toInterleaved,
} from "./complex.js";
export { assertStable, frequencyResponse, impulseResponse, isStable, poles, transferFunction } from "./continuous.js";
export { type ConvolutionOptions, causalConvolution, convolve, stateAfter, stateResponse } from "./convolution.js";
export {
  type DiscreteStep,
  type Discretization,
  type DiscretizationRule,
  discretize,
  expm1Over,
  type GeneralisedBilinear,
} from "./discretization.js";
export {
  type DiscreteDense,
  type DiscreteDiagonal,
  type DiscreteSystem,
  discretizeDense,
  discretizeDiagonal,
  discretizeSystem,
  dplrStepper,
  type Stepper,
} from "./discretize-system.js";
export { eigenvalues } from "./eigenvalues.js";
export { SsmError } from "./errors.js";
export { fft, ifft, irfft, rfft } from "./fft.js";
export { inverseSoftplus, sigmoid, silu, siluDerivative, softplus, softplusDerivative } from "./functions.js";
export { type HermitianEigen, hermitianEigen } from "./hermitian-eigen.js";
export { type HippoMatrices, type HippoMeasure, hippo, hippoBasis } from "./hippo.js";
export { hippoMemory, hippoReconstruct, legsError } from "./hippo-memory.js";
export { type DeltaInitOptions, deltaBias, s4dReal } from "./initialisation.js";
export { convolutionKernel } from "./kernel.js";
export { matrixExponential } from "./matrix-exponential.js";
export { hippoLowRank, type Nplr, nplr } from "./nplr.js";
export {
  type RecurrenceOptions,
  type RecurrenceResult,
  recurrence,
  sampledRecurrence,
  stepsFromTimes,
} from "./recurrence.js";
export { type S4dInit, s4dInit } from "./s4d.js";
export type { ScanArguments, ScanShape } from "./scan-arguments.js";
export { type ScanResult, selectiveScan, selectiveScanChunked, selectiveScanParallel } from "./selective-scan.js";
export { type ScanGradients, selectiveScanGradient } from "./selective-scan-gradient.js";
export { type SimulateOptions, simulate } from "./simulate.js";
export {
  type DenseSystem,
  type DiagonalSystem,
  type DplrSystem,
  denseForm,
  modesOf,
  rowOf,
  type StateSpace,
  stateSize,
} from "./system.js";
export { prefixes, sampledScan } from "./system-scan.js";
export { doubledOutput, truncatedOutput, untruncatedOutput } from "./truncation.js";
export { vandermonde } from "./vandermonde.js";
