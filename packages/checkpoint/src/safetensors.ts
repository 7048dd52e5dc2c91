/**
 * The safetensors format (https://github.com/huggingface/safetensors): 8 bytes with the header's length, a JSON header with dtype, shape
 * and byte range of each tensor, then the tensors. Read by range: only the header and the tensors asked for are touched.
 */
import { CheckpointError, type Shape } from "@mamba-ts/backend";
import { blockMetadata, storedAs, unpackBlocks } from "./block-formats.js";
import { type FileDType, fileDTypeBytes, isFileDType } from "./file-dtype.js";
import type { ByteReader } from "./reader.js";
import { missing, type TensorInfo, type TensorSource } from "./source.js";

/** The reference implementation's limit. */
const MAX_HEADER = 100_000_000;

interface Entry extends TensorInfo {
  readonly start: number;
  readonly end: number;
}

/** Opens a safetensors file; throws CheckpointError naming the file (and tensor) if anything about its header is wrong. */
export async function openSafetensors(reader: ByteReader, signal?: AbortSignal): Promise<TensorSource> {
  if (reader.size < 8)
    throw new CheckpointError(`${reader.name} is truncated: ${reader.size} bytes are no safetensors file`);
  const prefix = await reader.read(0, 8, signal);
  const length = Number(new DataView(prefix.buffer, prefix.byteOffset, 8).getBigUint64(0, true));
  if (length > MAX_HEADER)
    throw new CheckpointError(`${reader.name}: a header of ${length} bytes exceeds the limit of ${MAX_HEADER}`, {
      hint: "this is no safetensors file",
    });
  if (8 + length > reader.size)
    throw new CheckpointError(`${reader.name} is truncated: its header of ${length} bytes does not fit ${reader.size}`);
  const header = parseHeader(reader.name, await reader.read(8, length, signal));
  const dataStart = 8 + length;
  const { metadata, entries } = readEntries(reader.name, header, reader.size - dataStart);
  const of = (name: string): Entry => entries.get(name) ?? missing(name, reader.name);
  return {
    names: [...entries.keys()],
    metadata,
    has: (name) => entries.has(name),
    info: of,
    bytes: async (name, stop) => {
      const { start, end } = of(name);
      return reader.read(dataStart + start, end - start, stop);
    },
    close: () => reader.close(),
  };
}

function parseHeader(file: string, bytes: Uint8Array): Record<string, unknown> {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new CheckpointError(`${file}: the header is not UTF-8`, { cause });
  }
  let header: unknown;
  try {
    header = JSON.parse(text);
  } catch (cause) {
    throw new CheckpointError(`${file}: the header is not JSON`, { cause });
  }
  if (typeof header !== "object" || header === null || Array.isArray(header))
    throw new CheckpointError(`${file}: the header is no JSON object`);
  const twice = duplicateKey(text);
  if (twice !== undefined) throw new CheckpointError(`${file}: tensor ${twice} is listed twice`);
  return header as Record<string, unknown>;
}

/** JSON.parse lets a later key replace an earlier one silently: find top-level keys that come twice. */
function duplicateKey(text: string): string | undefined {
  const seen = new Set<string>();
  let depth = 0;
  const tokens = /["{}[\]]/g;
  const colon = /\s*:/y;
  for (let match = tokens.exec(text); match !== null; match = tokens.exec(text)) {
    const token = match[0];
    if (token === "{" || token === "[") depth++;
    else if (token === "}" || token === "]") depth--;
    else {
      colon.lastIndex = tokens.lastIndex = stringEnd(text, match.index);
      if (depth !== 1 || !colon.test(text)) continue;
      const key = JSON.parse(text.slice(match.index, tokens.lastIndex)) as string;
      if (seen.has(key)) return key;
      seen.add(key);
    }
  }
  return undefined;
}

/** Where the string of valid JSON ends whose opening quote is at `start`; a regular expression runs out of stack on long ones. */
function stringEnd(text: string, start: number): number {
  for (let end = text.indexOf('"', start + 1); ; end = text.indexOf('"', end + 1)) {
    let escapes = end;
    while (text[escapes - 1] === "\\") escapes--;
    if ((end - escapes) % 2 === 0) return end + 1;
  }
}

function readEntries(file: string, header: Record<string, unknown>, dataSize: number) {
  const entries = new Map<string, Entry>();
  let metadata: Record<string, string> = {};
  for (const [name, value] of Object.entries(header)) {
    if (name === "__metadata__") metadata = readMetadata(file, value);
    else entries.set(name, readEntry(file, name, value, dataSize));
  }
  let at = 0;
  for (const [name, { start, end }] of [...entries].sort(([, a], [, b]) => a.start - b.start || a.end - b.end)) {
    if (start < at)
      throw new CheckpointError(
        `${file}: tensor ${name} overlaps the one before it (bytes ${start} to ${end}, which start at ${at})`,
      );
    if (start > at) throw new CheckpointError(`${file}: ${start - at} bytes before tensor ${name} belong to nothing`);
    at = end;
  }
  if (at !== dataSize)
    throw new CheckpointError(`${file}: the tensors take ${at} bytes, the file has ${dataSize}`, {
      hint: at > dataSize ? "it was cut short" : undefined,
    });
  return { metadata: unpackBlocks(file, metadata, entries), entries };
}

function readMetadata(file: string, value: unknown): Record<string, string> {
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
  if (!isObject || !Object.values(value).every((v) => typeof v === "string"))
    throw new CheckpointError(`${file}: __metadata__ is no object of strings`);
  return value as Record<string, string>;
}

/** A value of a file, for a message: shortened, and only one level of it, for it may be nested without end. */
function quoted(value: unknown): string {
  const flat = (v: unknown): unknown => (typeof v === "object" && v !== null ? "…" : v);
  const text = JSON.stringify(Array.isArray(value) ? value.slice(0, 10).map(flat) : flat(value)) ?? "none";
  return text.length > 100 ? `${text.slice(0, 100)}…` : text;
}

function readEntry(file: string, name: string, value: unknown, dataSize: number): Entry {
  const {
    dtype,
    shape,
    data_offsets: offsets,
  } = (value ?? {}) as { dtype?: unknown; shape?: unknown; data_offsets?: unknown };
  if (!isFileDType(dtype))
    throw new CheckpointError(`${file}: tensor ${name} has dtype ${quoted(dtype)}, which is not known`);
  const isCount = (n: unknown): n is number => typeof n === "number" && Number.isSafeInteger(n) && n >= 0;
  if (!Array.isArray(shape) || !shape.every(isCount))
    throw new CheckpointError(`${file}: tensor ${name} has shape ${quoted(shape)}`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount))
    throw new CheckpointError(`${file}: tensor ${name} has data_offsets ${quoted(offsets)}`);
  const [start, end] = offsets as [number, number];
  const bytes = (shape as number[]).reduce((a, b) => a * b, fileDTypeBytes[dtype]);
  if (end - start !== bytes)
    throw new CheckpointError(
      `${file}: tensor ${name} ${dtype} [${shape.join(", ")}] needs ${bytes} bytes, its range ${start} to ${end} has ${end - start}`,
    );
  if (end > dataSize)
    throw new CheckpointError(`${file} is truncated: tensor ${name} ends at byte ${end} of ${dataSize}`);
  return { dtype, shape: shape as Shape, file, start, end };
}

export interface TensorToWrite {
  readonly name: string;
  readonly dtype: FileDType;
  readonly shape: Shape;
  /** Called once, when this tensor's turn comes: so that not all tensors are in memory at once. */
  bytes(): Uint8Array | Promise<Uint8Array>;
}

/** The parts of a safetensors file, in order. Tensors are written larger dtypes first, as the reference does, then by name. */
export async function* safetensorsParts(
  tensors: readonly TensorToWrite[],
  metadata: Readonly<Record<string, string>> = {},
): AsyncGenerator<Uint8Array> {
  const sorted = [...tensors].sort(
    (a, b) => fileDTypeBytes[b.dtype] - fileDTypeBytes[a.dtype] || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0),
  );
  // Without a prototype, for a tensor may be named __proto__.
  const header = Object.create(null) as Record<string, unknown>;
  const described = { ...metadata, ...blockMetadata(sorted) };
  if (Object.keys(described).length > 0) header["__metadata__"] = described;
  const sizes: number[] = [];
  let at = 0;
  for (const { name, dtype, shape } of sorted) {
    if (name === "__metadata__") throw new CheckpointError("saving: no tensor can be named __metadata__");
    if (Object.hasOwn(header, name)) throw new CheckpointError(`saving: two tensors are named ${name}`);
    const bytes = shape.reduce((a, b) => a * b, fileDTypeBytes[dtype]);
    header[name] = { ...storedAs(name, dtype, shape), data_offsets: [at, at + bytes] };
    sizes.push(bytes);
    at += bytes;
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const padded = Math.ceil(json.length / 8) * 8;
  const start = new Uint8Array(8 + padded).fill(0x20);
  new DataView(start.buffer).setBigUint64(0, BigInt(padded), true);
  start.set(json, 8);
  yield start;
  for (const [i, tensor] of sorted.entries()) {
    const bytes = await tensor.bytes();
    if (bytes.byteLength !== sizes[i])
      throw new CheckpointError(
        `saving: tensor ${tensor.name} has ${bytes.byteLength} bytes, its shape says ${sizes[i]}`,
      );
    yield bytes;
  }
}

/** A whole safetensors file in memory. */
export async function encodeSafetensors(
  tensors: readonly TensorToWrite[],
  metadata?: Readonly<Record<string, string>>,
): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const part of safetensorsParts(tensors, metadata)) parts.push(part);
  const out = new Uint8Array(parts.reduce((n, part) => n + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
