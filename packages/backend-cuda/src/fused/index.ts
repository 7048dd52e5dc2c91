import type { FusedOps } from "@mamba-ts/backend";
import type { CudaDevice } from "../device.js";
import { attention } from "./attention.js";
import { causalConv1d } from "./causal-conv1d.js";
import { fft } from "./fft.js";
import { adamw, kvAppend } from "./in-place.js";
import { linear } from "./linear.js";
import { linearCrossEntropy } from "./linear-cross-entropy.js";
import { mambaStep } from "./mamba-step.js";
import { moe } from "./moe.js";
import { layerNorm, rmsNorm } from "./norm.js";
import { sample } from "./sample.js";
import { selectiveScan } from "./selective-scan.js";

/** Every operation that has kernels of its own. */
export function fusedOps(device: CudaDevice): FusedOps {
  return {
    selectiveScan: selectiveScan(device),
    causalConv1d: causalConv1d(device),
    rmsNorm: rmsNorm(device),
    layerNorm: layerNorm(device),
    linear: linear(device),
    linearCrossEntropy: linearCrossEntropy(device),
    attention: attention(device),
    moe: moe(device),
    fft: fft(device),
    mambaStep: mambaStep(device),
    sample: sample(device),
    adamw: adamw(device),
    kvAppend: kvAppend(device),
  };
}
