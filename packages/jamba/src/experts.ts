/**
 * Checkpoints name every expert's matrices, or pack them; here all experts of a layer lie in one tensor of each kind, which is what the
 * mixture's kernel reads. Both directions, without ever holding more than one tensor on the host.
 */
import { CheckpointError, type DType } from "@mamba-ts/backend";
import {
  fileDTypeBytes,
  type TensorInfo,
  type TensorSource,
  type TensorToWrite,
  tensorToWrite,
} from "@mamba-ts/checkpoint";
import { denseStrides, sameShape, type Tensor } from "@mamba-ts/tensor";

const one = /^(.*\.experts)\.(\d+)\.((?:gate|up|down)_proj)\.weight$/;
const packed = /^(.*\.experts)\.gate_up_proj$/;
const whole = /^.*\.experts\.(?:gate|up|down)_proj$/;

/** A tensor made of others. */
interface Made {
  readonly info: TensorInfo;
  bytes(signal?: AbortSignal): Promise<Uint8Array>;
}

/** The same tensors, with every layer's experts stacked: `experts.gate_proj`, `up_proj` [experts, hidden, width], `down_proj` [experts, width, hidden]. */
export function stackExperts(source: TensorSource): TensorSource {
  const made = new Map<string, Made>();
  const rest: string[] = [];
  const stacks = new Map<string, Map<number, string>>();
  for (const name of source.names) {
    const single = one.exec(name);
    const both = packed.exec(name)?.[1];
    if (single !== null) {
      const [, prefix, index, kind] = single as unknown as [string, string, string, string];
      const key = `${prefix}.${kind}`;
      stacks.set(key, (stacks.get(key) ?? new Map<number, string>()).set(Number(index), name));
    } else if (both === undefined) rest.push(name);
    else
      for (const [half, kind] of ["gate_proj", "up_proj"].entries())
        made.set(`${both}.${kind}`, halfOf(source, name, half));
  }
  for (const [key, parts] of stacks) {
    if (made.has(key) || rest.includes(key))
      throw new CheckpointError(`${source.info([...parts.values()][0]!).file}: ${key} is there packed and one by one`);
    made.set(key, stackOf(source, key, parts));
  }
  return {
    names: [...rest, ...made.keys()],
    metadata: source.metadata,
    has: (name) => made.has(name) || (rest.includes(name) && source.has(name)),
    info: (name) => made.get(name)?.info ?? source.info(name),
    bytes: (name, signal) => made.get(name)?.bytes(signal) ?? source.bytes(name, signal),
    close: () => source.close(),
  };
}

function stackOf(source: TensorSource, key: string, parts: ReadonlyMap<number, string>): Made {
  const names = Array.from({ length: parts.size }, (_, i) => {
    const name = parts.get(i);
    if (name === undefined)
      throw new CheckpointError(`checkpoint: ${key} has ${parts.size} experts, but there is none of number ${i}`);
    return name;
  });
  const first = source.info(names[0]!);
  for (const name of names) {
    const { shape, dtype, file } = source.info(name);
    if (!sameShape(shape, first.shape) || dtype !== first.dtype)
      throw new CheckpointError(
        `${file}: ${name} is ${dtype} [${shape.join(", ")}], ${names[0]} ${first.dtype} [${first.shape.join(", ")}]`,
      );
  }
  const each = first.shape.reduce((n, m) => n * m, 1) * fileDTypeBytes[first.dtype];
  return {
    info: { ...first, shape: [names.length, ...first.shape] },
    async bytes(signal) {
      const all = new Uint8Array(names.length * each);
      for (const [i, name] of names.entries()) all.set(await source.bytes(name, signal), i * each);
      return all;
    },
  };
}

/** One half of every expert's [2 hidden, width]: gate lies above up. */
function halfOf(source: TensorSource, name: string, half: number): Made {
  const info = source.info(name);
  const [experts, rows, width] = info.shape as [number, number, number];
  if (info.shape.length !== 3 || rows % 2 !== 0)
    throw new CheckpointError(`${info.file}: ${name} is [${info.shape.join(", ")}], not [experts, 2 hidden, width]`);
  const size = (rows / 2) * width * fileDTypeBytes[info.dtype];
  return {
    info: { ...info, shape: [experts, rows / 2, width] },
    async bytes(signal) {
      const from = await source.bytes(name, signal);
      const to = new Uint8Array(experts * size);
      for (let e = 0; e < experts; e++)
        to.set(from.subarray((2 * e + half) * size, (2 * e + half + 1) * size), e * size);
      return to;
    },
  };
}

/** A parameter (or its gradient) as the tensors transformers writes for it: one, or one per expert. */
export function unstackExperts(name: string, tensor: Tensor, dtype: DType = tensor.dtype): TensorToWrite[] {
  if (!whole.test(name)) return [tensorToWrite(name, tensor, dtype)];
  const at = name.lastIndexOf(".");
  const [experts, ...shape] = tensor.shape as [number, number, number];
  return Array.from({ length: experts }, (_, e) => ({
    name: `${name.slice(0, at)}.${e}${name.slice(at)}.weight`,
    dtype: tensorToWrite(name, tensor, dtype).dtype,
    shape,
    async bytes() {
      // A view of the backend's memory, for as long as it is written.
      const view = tensor.view(shape, denseStrides(shape), tensor.offset + e * tensor.strides[0]!);
      try {
        return await tensorToWrite(name, view, dtype).bytes();
      } finally {
        view.dispose();
      }
    },
  }));
}
