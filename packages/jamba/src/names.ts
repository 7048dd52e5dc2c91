import { type KeyMap, renameSource, type TensorSource } from "@mamba-ts/checkpoint";
import { stackExperts } from "./experts.js";

/** Older names, and those of AI21's own files (Mixtral's spelling of the experts' matrices). */
const spellings: readonly (readonly [RegExp, string])[] = [
  [/\.pre_moe_layernorm\./, ".pre_ff_layernorm."],
  [/\.(?:moe|block_sparse_moe)\./, ".feed_forward."],
  [/\.w1\.weight$/, ".gate_proj.weight"],
  [/\.w2\.weight$/, ".down_proj.weight"],
  [/\.w3\.weight$/, ".up_proj.weight"],
];

/**
 * A checkpoint's tensors under the model's names, whatever it calls them: `.moe.` for `.feed_forward.`, w1, w2 and w3, a dense layer as
 * the only expert of its layer (Mini-Jamba), experts one by one or packed.
 * @param expertLayers - per layer: does it have experts?
 */
export function jambaSource(file: TensorSource, expertLayers: readonly boolean[]): TensorSource {
  const original = new Map<string, string>();
  const map: KeyMap = {
    name: "jamba",
    toModel(name) {
      let out = name;
      for (const [from, to] of spellings) out = out.replace(from, to);
      const layer = Number(/^model\.layers\.(\d+)\./.exec(out)?.[1] ?? -1);
      if (expertLayers[layer] === false) out = out.replace(".feed_forward.experts.0.", ".feed_forward.");
      original.set(out, name);
      return out;
    },
    toFile: (name) => original.get(name) ?? name,
  };
  return stackExperts(renameSource(file, map));
}
