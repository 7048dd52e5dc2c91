export { expectDType, fill, fromBytes, fromHost, ones, range, tensor, zeros } from "./create.js";
export { type DispatchEvent, watchDispatch } from "./dispatch.js";
export { clearPadding, type SegmentMarks, segmentMarks } from "./marks.js";
export { gelu, glu } from "./ops/activation.js";
export { type AdamWArguments, adamW } from "./ops/adamw.js";
export { attention } from "./ops/attention.js";
export { add, compare, div, logAddExp, maximum, minimum, mul, pow, sub, type TensorOrNumber } from "./ops/binary.js";
export { causalConv1d } from "./ops/causal-conv1d.js";
export { irfft, rfft } from "./ops/fft.js";
export { fastFftLength, fftConvolution } from "./ops/fft-convolution.js";
export { gatedOutput } from "./ops/gated-output.js";
export { gather, pick, scatterAdd } from "./ops/gather.js";
export { concat, pad, stack } from "./ops/join.js";
export { kvAppend } from "./ops/kv-append.js";
export { linear } from "./ops/linear.js";
export { linearCrossEntropy } from "./ops/linear-cross-entropy.js";
export { linearScan } from "./ops/linear-scan.js";
export { type MambaStepArguments, type MambaStepResult, mambaStep } from "./ops/mamba-step.js";
export { matmul } from "./ops/matmul.js";
export { moe, moeBlockRows } from "./ops/moe.js";
export { layerNorm, type NormArguments, type NormResult, rmsNorm } from "./ops/norm.js";
export { argMax, argMin, logSumExp, max, mean, softmax, sum } from "./ops/reduce.js";
export { expectSampleOptions, type SampleOptions, type SampleResult, sample } from "./ops/sample.js";
export { type SelectiveScanArguments, type SelectiveScanResult, selectiveScan } from "./ops/selective-scan.js";
export {
  abs,
  accumulationDType,
  cast,
  cos,
  erf,
  exp,
  floor,
  log,
  neg,
  reciprocal,
  relu,
  rsqrt,
  sigmoid,
  sign,
  silu,
  sin,
  softplus,
  sqrt,
  tanh,
} from "./ops/unary.js";
export { copy, detach, expand, flip, permute, reshape, slice, split, transpose, unsqueeze } from "./ops/view.js";
export { where } from "./ops/where.js";
export { philox, randomWords } from "./philox.js";
export { type RandomOptions, Rng, randomNormal, randomUniform } from "./random.js";
export { forget, tapeIsOpen, withoutRecording } from "./recorder.js";
export { keep, scope, type TensorOwner, tensorsIn, tensorsSymbol } from "./scope.js";
export { broadcastShapes, denseStrides, expectRank, expectShape, sameShape, sizeOf } from "./shape.js";
export { checkpoint, valueAndGrad, vjp } from "./tape.js";
export { type HostArray, Tensor, traceFrees } from "./tensor.js";
export { giveTurn } from "./turn.js";
export { write } from "./write.js";
