import type { FusedOps } from "@mamba-ts/backend";
import type { WebGpuMemory } from "../storage.js";
import { activation } from "./activation.js";
import { attention } from "./attention.js";
import { causalConv1d } from "./causal-conv1d.js";
import { fft, Transforms } from "./fft.js";
import { fftConvolution } from "./fft-convolution.js";
import { gatedOutput } from "./gated-output.js";
import { adamw, kvAppend } from "./in-place.js";
import { linear } from "./linear.js";
import { linearCrossEntropy } from "./linear-cross-entropy.js";
import { mambaStep } from "./mamba-step.js";
import { moe } from "./moe.js";
import { layerNorm, rmsNorm } from "./norm.js";
import { sample } from "./sample.js";
import { selectiveScan } from "./selective-scan.js";

/** The operations that have kernels of their own. */
export function fusedOps(memory: WebGpuMemory): FusedOps {
  const transforms = new Transforms(memory);
  return {
    selectiveScan: selectiveScan(memory),
    causalConv1d: causalConv1d(memory),
    gatedOutput: gatedOutput(memory),
    activation: activation(memory),
    rmsNorm: rmsNorm(memory),
    layerNorm: layerNorm(memory),
    linear: linear(memory),
    linearCrossEntropy: linearCrossEntropy(memory),
    attention: attention(memory),
    fft: fft(transforms),
    fftConvolution: fftConvolution(memory, transforms),
    moe: moe(memory),
    mambaStep: mambaStep(memory),
    adamw: adamw(memory),
    kvAppend: kvAppend(memory),
    sample: sample(memory),
  };
}
