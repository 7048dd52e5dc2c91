/** PyTorch's `.bin` and `.pt` files: a zip archive with a pickle that names tensors, and their storages. Read as data; nothing in them is executed. */
import { CheckpointError } from "@mamba-ts/backend";
import { fileDTypeBytes } from "./file-dtype.js";
import { PickledTensor, unpickle } from "./pytorch/unpickle.js";
import { dataOffset, readZip } from "./pytorch/zip.js";
import type { ByteReader } from "./reader.js";
import { missing, type TensorSource } from "./source.js";

const MAX_PICKLE = 2 ** 27;

export interface PytorchOptions {
  /** The state dict's key, where the file holds a dictionary around it ("model", "state_dict"). */
  readonly key?: string;
}

/** Opens a state dict; tensors are read by range when asked for. Throws CheckpointError naming the file and what is wrong with it. */
export async function openPytorch(reader: ByteReader, { key }: PytorchOptions = {}): Promise<TensorSource> {
  const entries = await readZip(reader);
  const pickle = [...entries.keys()].find((name) => name === "data.pkl" || name.endsWith("/data.pkl"));
  const entry = pickle === undefined ? undefined : entries.get(pickle);
  if (entry === undefined)
    throw new CheckpointError(`${reader.name}: the archive holds no data.pkl`, {
      hint: "this is no file of torch.save",
    });
  if (entry.size > MAX_PICKLE) throw new CheckpointError(`${reader.name}: a pickle of ${entry.size} bytes`);
  const folder = entry.name.slice(0, -"data.pkl".length);
  const order = entries.get(`${folder}byteorder`);
  if (order !== undefined && order.size <= 16) {
    const text = new TextDecoder().decode(await reader.read(await dataOffset(reader, order), order.size));
    if (text !== "little") throw new CheckpointError(`${reader.name}: its byte order is ${text}, not little`);
  }
  const value = unpickle(await reader.read(await dataOffset(reader, entry), entry.size), reader.name);
  const tensors = stateDict(reader.name, value, key);
  const of = (name: string): PickledTensor => tensors.get(name) ?? missing(name, reader.name);
  return {
    names: [...tensors.keys()],
    metadata: {},
    has: (name) => tensors.has(name),
    info: (name) => ({ shape: of(name).shape, dtype: of(name).storage.dtype, file: reader.name }),
    async bytes(name, signal) {
      const tensor = of(name);
      const { storage } = tensor;
      const size = fileDTypeBytes[storage.dtype];
      const file = entries.get(`${folder}data/${storage.key}`);
      if (file === undefined || file.size < storage.count * size)
        throw new CheckpointError(`${reader.name}: the storage of ${name} is missing or too short`);
      const start = (await dataOffset(reader, file)) + tensor.offset * size;
      const span = tensor.shape.includes(0) ? 0 : tensor.shape.reduce((n, m, d) => n + (m - 1) * tensor.strides[d]!, 1);
      return dense(tensor, await reader.read(start, span * size, signal), size);
    },
    close: () => reader.close(),
  };
}

function stateDict(file: string, value: unknown, key: string | undefined): Map<string, PickledTensor> {
  const dict = key === undefined ? value : value instanceof Map ? value.get(key) : undefined;
  if (!(dict instanceof Map))
    throw new CheckpointError(
      `${file}: ${key === undefined ? "it holds no dictionary" : `it has no dictionary ${key}`}`,
    );
  for (const [name, tensor] of dict) {
    if (typeof name !== "string") throw new CheckpointError(`${file}: a key of its dictionary is no text`);
    if (!(tensor instanceof PickledTensor))
      throw new CheckpointError(`${file}: ${name} is no tensor`, {
        hint: tensor instanceof Map ? `the weights may be inside: give { key: "${name}" }` : undefined,
      });
  }
  return dict as Map<string, PickledTensor>;
}

/** The elements in row-major order. */
function dense({ shape, strides }: PickledTensor, bytes: Uint8Array, size: number): Uint8Array {
  let expected = 1;
  let isDense = true;
  for (let d = shape.length - 1; d >= 0; d--) {
    if (shape[d] !== 1 && strides[d] !== expected) isDense = false;
    expected *= shape[d]!;
  }
  if (isDense) return bytes;
  const out = new Uint8Array(expected * size);
  const index = shape.map(() => 0);
  for (let i = 0; i < expected; i++) {
    const from = index.reduce((n, k, d) => n + k * strides[d]!, 0) * size;
    out.set(bytes.subarray(from, from + size), i * size);
    for (let d = shape.length - 1; d >= 0 && ++index[d]! >= shape[d]!; d--) index[d] = 0;
  }
  return out;
}
