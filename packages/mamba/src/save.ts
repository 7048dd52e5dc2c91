import type { DType } from "@mamba-ts/backend";
import { type TensorToWrite, tensorToWrite } from "@mamba-ts/checkpoint";
import { type Naming, namings } from "./checkpoint-names.js";
import type { Mamba } from "./model.js";

/**
 * A model's tensors, ready for a safetensors file, under the names of either naming. With a dtype, weights are converted; A_log, D,
 * norms and the step's bias stay in float32.
 */
export function mambaTensors(
  model: Mamba,
  { dtype, naming = "transformers" }: { readonly dtype?: DType; readonly naming?: Naming } = {},
): TensorToWrite[] {
  const { toFile } = namings[naming];
  return [...model.namedParameters()].map(([name, parameter]) =>
    tensorToWrite(
      toFile(name),
      parameter.value,
      dtype === undefined ? parameter.value.dtype : parameter.dtypeIn(dtype),
    ),
  );
}
