import { CheckpointError } from "@mamba-ts/backend";
import type { TensorSource } from "./source.js";

/** Translates tensor names between a checkpoint's scheme and a model's own. */
export interface KeyMap {
  readonly name: string;
  /** The model's name for a tensor of the file; undefined: the file's tensor is not used. */
  toModel(fileName: string): string | undefined;
  /** The file's name for a parameter of the model. */
  toFile(modelName: string): string;
}

/** A key map from pairs of prefixes or whole names, [file, model]; the first that fits counts. Names that fit none stay. */
export function prefixMap(
  name: string,
  pairs: readonly (readonly [file: string, model: string])[],
  ignored: readonly string[] = [],
): KeyMap {
  const replace = (from: 0 | 1, key: string): string => {
    for (const pair of pairs) {
      const prefix = pair[from];
      if (key === prefix || key.startsWith(`${prefix}.`)) return pair[1 - from]! + key.slice(prefix.length);
    }
    return key;
  };
  return {
    name,
    toModel: (key) => (ignored.includes(key) ? undefined : replace(0, key)),
    toFile: (key) => replace(1, key),
  };
}

/** A key map for names in numbered layers: `layers` are the prefixes of both, `inner` translates what follows the number, `outer` all other names. */
export function layeredMap(
  name: string,
  layers: readonly [file: string, model: string],
  inner: KeyMap,
  outer: KeyMap,
): KeyMap {
  const replace = (key: string, from: string, to: string, within: (rest: string) => string | undefined) => {
    const end = key.startsWith(from) ? key.indexOf(".", from.length) : -1;
    if (end < 0) return undefined;
    const rest = within(key.slice(end + 1));
    return rest === undefined ? undefined : to + key.slice(from.length, end + 1) + rest;
  };
  return {
    name,
    toModel: (key) =>
      key.startsWith(layers[0]) ? replace(key, layers[0], layers[1], inner.toModel) : outer.toModel(key),
    toFile: (key) => replace(key, layers[1], layers[0], inner.toFile) ?? outer.toFile(key),
  };
}

/** The same tensors under the model's names. Throws CheckpointError if two of the file's names become one. */
export function renameSource(source: TensorSource, map: KeyMap): TensorSource {
  const original = new Map<string, string>();
  for (const fileName of source.names) {
    const modelName = map.toModel(fileName);
    if (modelName === undefined) continue;
    const other = original.get(modelName);
    if (other !== undefined)
      throw new CheckpointError(`${source.info(fileName).file}: ${other} and ${fileName} both mean ${modelName}`);
    original.set(modelName, fileName);
  }
  const of = (name: string): string => {
    const found = original.get(name);
    if (found === undefined) throw new CheckpointError(`checkpoint: there is no tensor ${map.toFile(name)}`);
    return found;
  };
  return {
    names: [...original.keys()],
    metadata: source.metadata,
    has: (name) => original.has(name),
    info: (name) => source.info(of(name)),
    bytes: (name, signal) => source.bytes(of(name), signal),
    close: () => source.close(),
  };
}
