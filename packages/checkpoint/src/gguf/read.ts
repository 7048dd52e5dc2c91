import { type GGUFParseOutput, gguf } from "@huggingface/gguf";
import { CheckpointError, isMambaError, type Shape } from "@mamba-ts/backend";
import type { ByteReader } from "../reader.js";
import { missing, type TensorInfo, type TensorSource } from "../source.js";
import { dequantise } from "./dequantise.js";
import { type GgmlType, ggmlType } from "./types.js";

/** A value of the metadata, with every integer as a number. */
export type GgufValue = number | string | boolean | readonly GgufValue[];
export type GgufMetadata = Readonly<Record<string, GgufValue>>;

export interface Gguf {
  readonly metadata: GgufMetadata;
  /** Tensors under the file's names, their shapes outermost axis first. Q4_0, Q4_K and Q6_K come out as F32. */
  readonly source: TensorSource;
}

interface Entry extends TensorInfo {
  readonly type: GgmlType;
  readonly start: number;
  readonly bytes: number;
}

/** Opens a GGUF file; only the header and the tensors asked for are read. Throws CheckpointError naming the file (and tensor) if anything is wrong with it. */
export async function openGgufFile(reader: ByteReader, signal?: AbortSignal): Promise<Gguf> {
  const header = await readHeader(reader, signal);
  const entries = readEntries(reader, header);
  const of = (name: string): Entry => entries.get(name) ?? missing(name, reader.name);
  const source: TensorSource = {
    names: [...entries.keys()],
    metadata: {},
    has: (name) => entries.has(name),
    info: of,
    async bytes(name, stop) {
      const { type, start, bytes } = of(name);
      const stored = await reader.read(start, bytes, stop);
      return dequantise(type.name, stored) ?? stored;
    },
    close: () => reader.close(),
  };
  return { metadata: plainMetadata(reader.name, header.metadata), source };
}

/** The header by `@huggingface/gguf`, which asks for ranges as it would of a server. */
async function readHeader(reader: ByteReader, signal: AbortSignal | undefined): Promise<GGUFParseOutput> {
  const range: typeof fetch = async (_, init) => {
    const [from, to] = (/\d+-\d+/.exec(new Headers(init?.headers).get("range")!)?.[0] ?? "").split("-").map(Number);
    // The library takes what is beyond the end for zeros.
    if (from! > 0 && from! >= reader.size)
      throw new CheckpointError(`${reader.name} is truncated: its header does not end`);
    const bytes = await reader.read(from!, Math.min(to! + 1, reader.size) - from!, signal);
    return new Response(bytes.slice(), { headers: { "content-range": `bytes ${from}-${to}/${reader.size}` } });
  };
  let header: GGUFParseOutput;
  try {
    header = (await gguf("http://localhost/file.gguf", { fetch: range })) as GGUFParseOutput;
  } catch (cause) {
    signal?.throwIfAborted();
    if (isMambaError(cause)) throw cause;
    throw new CheckpointError(`${reader.name} is no GGUF file that can be read: ${(cause as Error).message}`, {
      cause,
    });
  }
  if (!header.littleEndian) throw new CheckpointError(`${reader.name}: a big-endian GGUF file is not read here`);
  const end = header.tensorInfoByteRange[1];
  if (end > reader.size)
    throw new CheckpointError(`${reader.name} is truncated: its header takes ${end} bytes of ${reader.size}`);
  return header;
}

function readEntries(
  reader: ByteReader,
  { tensorInfos, tensorDataOffset, metadata }: GGUFParseOutput,
): Map<string, Entry> {
  const file = reader.name;
  const alignment = Number((metadata as { readonly "general.alignment"?: unknown })["general.alignment"] ?? 32);
  const entries = new Map<string, Entry>();
  for (const { name, shape: sizes, dtype, offset } of tensorInfos) {
    if (entries.has(name)) throw new CheckpointError(`${file}: tensor ${name} is listed twice`);
    const type = ggmlType(file, name, dtype);
    // Innermost axis first in the file.
    const shape: Shape = sizes.map(Number).reverse();
    const count = shape.reduce((n, m) => n * m, 1);
    if (!Number.isSafeInteger(count))
      throw new CheckpointError(`${file}: tensor ${name} has shape [${shape.join(", ")}]`);
    if ((shape.at(-1) ?? 1) % type.elements !== 0)
      throw new CheckpointError(
        `${file}: tensor ${name} ${type.name} [${shape.join(", ")}] has rows that are no whole number of blocks of ${type.elements}`,
      );
    if (offset % BigInt(alignment) !== 0n)
      throw new CheckpointError(`${file}: tensor ${name} begins at ${offset}, no multiple of ${alignment}`);
    const start = Number(tensorDataOffset + offset);
    const bytes = (count / type.elements) * type.bytes;
    if (!Number.isSafeInteger(start + bytes) || start + bytes > reader.size)
      throw new CheckpointError(
        `${file} is truncated: tensor ${name} ends at byte ${start + bytes} of a file of ${reader.size}`,
        { hint: "the download or copy was cut short; fetch it again" },
      );
    const stored = type.name === type.dtype ? {} : { stored: { type: type.name, bytes } };
    entries.set(name, { shape, dtype: type.dtype, file, ...stored, type, start, bytes });
  }
  let at = 0;
  for (const [name, { start, bytes }] of [...entries].sort(([, a], [, b]) => a.start - b.start || a.bytes - b.bytes)) {
    if (start < at) throw new CheckpointError(`${file}: tensor ${name} overlaps the one before it`);
    at = start + bytes;
  }
  return entries;
}

function plainMetadata(file: string, metadata: object): GgufMetadata {
  const plain = (key: string, value: unknown): GgufValue => {
    if (typeof value === "bigint") {
      if (value > BigInt(Number.MAX_SAFE_INTEGER) || value < -BigInt(Number.MAX_SAFE_INTEGER))
        throw new CheckpointError(`${file}: ${key} is ${value}, beyond all sizes`);
      return Number(value);
    }
    return Array.isArray(value) ? value.map((v) => plain(key, v)) : (value as GgufValue);
  };
  return Object.fromEntries(Object.entries(metadata).map(([key, value]) => [key, plain(key, value)]));
}
