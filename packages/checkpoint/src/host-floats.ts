/** Floating point formats of files as numbers of the host: for backends that have not the format. */
import { CheckpointError } from "@mamba-ts/backend";
import type { FileDType } from "./file-dtype.js";

/** The value of an IEEE 754 binary16. */
export function halfToNumber(bits: number): number {
  const exponent = (bits >>> 10) & 31;
  const fraction = bits & 1023;
  const magnitude =
    exponent === 0
      ? fraction * 2 ** -24
      : exponent === 31
        ? fraction === 0
          ? Number.POSITIVE_INFINITY
          : Number.NaN
        : (1 + fraction / 1024) * 2 ** (exponent - 15);
  return bits >>> 15 === 0 ? magnitude : -magnitude;
}

/** Elements of any floating point file dtype, to the nearest float32. Throws CheckpointError for integers. */
export function hostFloats(dtype: FileDType, bytes: Uint8Array): Float32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const each = (size: number, at: (offset: number) => number): Float32Array =>
    Float32Array.from({ length: bytes.length / size }, (_, i) => at(i * size));
  switch (dtype) {
    case "F64":
      return each(8, (at) => view.getFloat64(at, true));
    case "F32":
      return each(4, (at) => view.getFloat32(at, true));
    case "F16":
      return each(2, (at) => halfToNumber(view.getUint16(at, true)));
    case "BF16": {
      const words = Uint32Array.from({ length: bytes.length / 2 }, (_, i) => view.getUint16(2 * i, true) << 16);
      return new Float32Array(words.buffer);
    }
    case "Q8_0":
      return blocks(view);
    default:
      throw new CheckpointError(`${dtype} is no floating point format`);
  }
}

/** q8_0: of 32 elements, an f16 scale, then 32 int8 multiples of it. */
function blocks(view: DataView): Float32Array {
  const out = new Float32Array((view.byteLength / 34) * 32);
  for (let at = 0, i = 0; at < view.byteLength; at += 34) {
    const scale = halfToNumber(view.getUint16(at, true));
    for (let j = 0; j < 32; j++) out[i++] = scale * view.getInt8(at + 2 + j);
  }
  return out;
}
