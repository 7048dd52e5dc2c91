import { type Backend, CheckpointError, type DType, type Shape } from "@mamba-ts/backend";
import { cast, fromBytes, type Tensor } from "@mamba-ts/tensor";
import { type FileDType, toTensorBytes, toTensorDType } from "./file-dtype.js";
import { hostFloats } from "./host-floats.js";

export interface TensorInfo {
  readonly shape: Shape;
  readonly dtype: FileDType;
  /** Where it lies, for messages. */
  readonly file: string;
  /** What the file has, where that is decoded to `dtype`. */
  readonly stored?: { readonly type: string; readonly bytes: number };
}

/** Named tensors that are read one at a time, when asked for. */
export interface TensorSource {
  readonly names: readonly string[];
  readonly metadata: Readonly<Record<string, string>>;
  has(name: string): boolean;
  /** Throws CheckpointError if there is no such tensor. */
  info(name: string): TensorInfo;
  /** The tensor's bytes, dense, little-endian, in its file dtype. */
  bytes(name: string, signal?: AbortSignal): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** Reads one tensor onto a backend, converted to `dtype` if one is named. Integers become int32. */
export async function readTensor(
  source: TensorSource,
  name: string,
  backend: Backend,
  { dtype, signal }: { readonly dtype?: DType | undefined; readonly signal?: AbortSignal | undefined } = {},
): Promise<Tensor> {
  const info = source.info(name);
  const bytes = toTensorBytes(name, info.dtype, await source.bytes(name, signal));
  const own = toTensorDType(info.dtype);
  // A format that the backend has not is decoded here; asked for, it is an error.
  const decode = own !== "int32" && own !== dtype && !backend.dtypes.has(own);
  const tensor = decode
    ? fromBytes(backend, hostFloats(info.dtype, bytes), info.shape, "float32")
    : fromBytes(backend, bytes, info.shape, own);
  if (dtype === undefined || dtype === tensor.dtype) return tensor;
  const converted = cast(tensor, dtype);
  tensor.dispose();
  return converted;
}

/** Several sources as one; the files of a sharded checkpoint. */
export function combineSources(parts: readonly TensorSource[]): TensorSource {
  const owner = new Map<string, TensorSource>();
  for (const part of parts)
    for (const name of part.names) {
      const other = owner.get(name);
      if (other !== undefined)
        throw new CheckpointError(`tensor ${name} is in both ${other.info(name).file} and ${part.info(name).file}`);
      owner.set(name, part);
    }
  const of = (name: string): TensorSource =>
    owner.get(name) ?? missing(name, parts[0]?.names[0] === undefined ? "" : "checkpoint");
  return {
    names: [...owner.keys()],
    metadata: Object.assign({}, ...parts.map((p) => p.metadata)) as Record<string, string>,
    has: (name) => owner.has(name),
    info: (name) => of(name).info(name),
    bytes: (name, signal) => of(name).bytes(name, signal),
    close: async () => {
      await Promise.all(parts.map((p) => p.close()));
    },
  };
}

/** Throws the error for a tensor that is not there. */
export function missing(name: string, where: string): never {
  throw new CheckpointError(`${where}: there is no tensor ${name}`);
}

/** A checkpoint that has been opened: its configuration, its tensors, and its tokenizer's files if it has them. */
export interface Checkpoint {
  readonly config: unknown;
  readonly source: TensorSource;
  readonly tokenizer: { readonly json: unknown; readonly config: unknown } | undefined;
}
