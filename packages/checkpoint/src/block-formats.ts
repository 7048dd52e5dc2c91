/**
 * Weights in blocks inside safetensors, which has no dtype for them: bytes, U8 [..., blocks of a row * 34], and their names in the
 * metadata, so that every reader of safetensors can open the file and this one knows what the bytes are.
 */
import { CheckpointError, type Shape } from "@mamba-ts/backend";
import type { FileDType } from "./file-dtype.js";
import type { TensorInfo } from "./source.js";

/** The metadata's key: a JSON array of names. */
const KEY = "mamba-ts.q8_0";
const [ELEMENTS, BYTES] = [32, 34];

/** How a tensor is listed in the header. */
export function storedAs(name: string, dtype: FileDType, shape: Shape): { dtype: FileDType; shape: Shape } {
  if (dtype !== "Q8_0") return { dtype, shape };
  const width = shape.at(-1) ?? 1;
  if (width % ELEMENTS !== 0)
    throw new CheckpointError(
      `saving: tensor ${name} [${shape.join(", ")}] has rows that are no whole number of blocks`,
    );
  return { dtype: "U8", shape: [...shape.slice(0, -1), (width / ELEMENTS) * BYTES] };
}

/** What the metadata says of tensors in blocks; nothing where there are none. */
export function blockMetadata(
  tensors: readonly { readonly name: string; readonly dtype: FileDType }[],
): Readonly<Record<string, string>> {
  const names = tensors.flatMap(({ name, dtype }) => (dtype === "Q8_0" ? [name] : []));
  return names.length === 0 ? {} : { [KEY]: JSON.stringify(names) };
}

/** Gives the entries that the metadata names their own dtype and shape, and returns the rest of the metadata. Throws CheckpointError for names that are none. */
export function unpackBlocks<E extends TensorInfo>(
  file: string,
  metadata: Readonly<Record<string, string>>,
  entries: Map<string, E>,
): Record<string, string> {
  const { [KEY]: text, ...rest } = metadata;
  if (text === undefined) return rest;
  for (const name of namesIn(file, text)) {
    const entry = entries.get(name);
    const width = entry?.shape.at(-1);
    if (entry === undefined || entry.dtype !== "U8" || width === undefined || width % BYTES !== 0)
      throw new CheckpointError(`${file}: ${KEY} names ${name}, which is no tensor of whole blocks`);
    entries.set(name, { ...entry, dtype: "Q8_0", shape: [...entry.shape.slice(0, -1), (width / BYTES) * ELEMENTS] });
  }
  return rest;
}

function namesIn(file: string, text: string): readonly string[] {
  let names: unknown;
  try {
    names = JSON.parse(text);
  } catch {}
  if (!Array.isArray(names) || !names.every((name) => typeof name === "string"))
    throw new CheckpointError(`${file}: ${KEY} is no list of names`);
  return names as string[];
}
