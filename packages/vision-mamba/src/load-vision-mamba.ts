import { CheckpointError, type DType } from "@mamba-ts/backend";
import {
  type Checkpoint,
  readTensor,
  type TensorSource,
  type TensorToWrite,
  tensorToWrite,
} from "@mamba-ts/checkpoint";
import { type LoadMambaOptions, type LoadOptions, loadParameters, loadWith } from "@mamba-ts/mamba/load";
import { keep, sameShape } from "@mamba-ts/tensor";
import { resolveVisionMambaConfig, type VisionMambaConfig } from "./config.js";
import { VisionMamba } from "./model.js";
import { interpolatePositions } from "./positions.js";
import { parseVimConfig } from "./vim-config.js";

/** Load for images of another size, or with patches closer together: the positions are interpolated. */
export type ResizeOptions = Pick<VisionMambaConfig, "imageSize" | "stride">;

/**
 * Makes a model from the constructor's arguments and tensors under that repository's names. Throws ConfigError, or CheckpointError naming
 * the tensor that is missing, surplus or of the wrong shape.
 */
export async function loadVisionMambaFrom(
  json: unknown,
  source: TensorSource,
  options: LoadOptions & ResizeOptions,
): Promise<VisionMamba> {
  const given = parseVimConfig(json, source);
  const { imageSize, stride } = options;
  const model = new VisionMamba(given);
  if (imageSize === undefined && stride === undefined) {
    await loadParameters(model, source, options);
    return model;
  }
  const resized = {
    ...given,
    ...(imageSize === undefined ? {} : { imageSize }),
    ...(stride === undefined ? {} : { stride }),
  };
  const [from, to] = [resolveVisionMambaConfig(given), resolveVisionMambaConfig(resized)];
  const target = new VisionMamba(resized);
  if (target.posEmbed === undefined) {
    await loadParameters(target, source, options);
    return target;
  }
  await loadParameters(target, hiding(source, target.posEmbed.shape), options);
  const { backend, dtype = "float32" } = options;
  const info = source.info("pos_embed");
  if (!sameShape(info.shape, model.posEmbed!.shape))
    throw new CheckpointError(
      `${info.file}: tensor pos_embed is [${info.shape.join(", ")}], the config makes it [${model.posEmbed!.shape.join(", ")}]`,
    );
  const learnt = await readTensor(source, "pos_embed", backend, { dtype: target.posEmbed.dtypeIn(dtype) });
  target.posEmbed.value = keep(interpolatePositions(learnt, from, to));
  learnt.dispose();
  return target;
}

/** The same tensors with zeros for the positions, which are set afterwards. */
function hiding(source: TensorSource, shape: readonly number[]): TensorSource {
  const size = shape.reduce((n, m) => n * m, 1);
  return {
    ...source,
    info: (name) => (name === "pos_embed" ? { ...source.info(name), shape, dtype: "F32" } : source.info(name)),
    bytes: async (name, signal) => (name === "pos_embed" ? new Uint8Array(4 * size) : source.bytes(name, signal)),
  };
}

/** Loads a model from a folder (Node), a hub repository such as "hustvl/Vim-tiny-midclstok", or an opened checkpoint. */
export async function loadVisionMamba(
  from: string | Checkpoint,
  options: LoadMambaOptions & ResizeOptions,
): Promise<VisionMamba> {
  const load = (json: unknown, source: TensorSource): Promise<VisionMamba> =>
    loadVisionMambaFrom(json, source, options);
  return (await loadWith(load, from, options)).model;
}

/** A model's tensors, ready for a safetensors file, under the repository's names. */
export function visionMambaTensors(model: VisionMamba, { dtype }: { readonly dtype?: DType } = {}): TensorToWrite[] {
  return [...model.namedParameters()].map(([name, parameter]) =>
    tensorToWrite(name, parameter.value, dtype === undefined ? parameter.value.dtype : parameter.dtypeIn(dtype)),
  );
}
