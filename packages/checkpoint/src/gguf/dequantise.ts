/**
 * Formats of blocks that are only read: decoded to float32. Their layouts are those of ggml-common.h (block_q4_0, block_q4_K, block_q6_K).
 * A block's numbers are d q or d q - m, with q a few bits, and d and m small integers times f16 scales of the whole block.
 */
import { halfToNumber } from "../host-floats.js";

/** Decodes the block at `at` into out[start…]. */
type Decoder = (bytes: DataView, at: number, out: Float32Array, start: number) => void;

/** 32 elements: an f16 scale; 16 bytes whose low halves are the first 16 elements, and whose high halves the others, each plus 8. */
const q4_0: Decoder = (bytes, at, out, start) => {
  const d = halfToNumber(bytes.getUint16(at, true));
  for (let j = 0; j < 16; j++) {
    const pair = bytes.getUint8(at + 2 + j);
    out[start + j] = d * ((pair & 15) - 8);
    out[start + 16 + j] = d * ((pair >> 4) - 8);
  }
};

/**
 * 256 elements in 8 groups of 32: f16 scales of the groups' scales and of their minima; 12 bytes with 8 scales and 8 minima of 6 bits;
 * 128 bytes, of which every 32 hold one group in their low and the next in their high halves.
 */
const q4_K: Decoder = (bytes, at, out, start) => {
  const d = halfToNumber(bytes.getUint16(at, true));
  const dMin = halfToNumber(bytes.getUint16(at + 2, true));
  const packed = (i: number): number => bytes.getUint8(at + 4 + i);
  for (let group = 0; group < 8; group++) {
    // The first four scales and minima have bytes of their own, whose two highest bits belong to the last four.
    const scale = group < 4 ? packed(group) & 63 : (packed(group + 4) & 15) | ((packed(group - 4) >> 6) << 4);
    const minimum = group < 4 ? packed(group + 4) & 63 : (packed(group + 4) >> 4) | ((packed(group) >> 6) << 4);
    const [step, shift] = [Math.fround(d * scale), Math.fround(dMin * minimum)];
    const quants = at + 16 + 32 * (group >> 1);
    for (let j = 0; j < 32; j++) {
      const q = (bytes.getUint8(quants + j) >> (4 * (group & 1))) & 15;
      out[start + 32 * group + j] = Math.fround(step * q) - shift;
    }
  }
};

/** 256 elements: 128 bytes of low halves, 64 of two high bits each, 16 int8 scales of 16 elements each, an f16 scale of those. */
const q6_K: Decoder = (bytes, at, out, start) => {
  const d = halfToNumber(bytes.getUint16(at + 208, true));
  for (let half = 0; half < 2; half++)
    for (let quarter = 0; quarter < 4; quarter++)
      for (let j = 0; j < 32; j++) {
        const low = bytes.getUint8(at + 64 * half + 32 * (quarter & 1) + j) >> (4 * (quarter >> 1));
        const high = bytes.getUint8(at + 128 + 32 * half + j) >> (2 * quarter);
        const q = ((low & 15) | ((high & 3) << 4)) - 32;
        const scale = bytes.getInt8(at + 192 + 8 * half + 2 * quarter + (j >> 4));
        out[start + 128 * half + 32 * quarter + j] = Math.fround(d * scale) * q;
      }
};

const decoders: { readonly [type: string]: readonly [decode: Decoder, elements: number, bytes: number] } = {
  Q4_0: [q4_0, 32, 18],
  Q4_K: [q4_K, 256, 144],
  Q6_K: [q6_K, 256, 210],
};

/** The elements of whole blocks as little-endian float32; undefined for a type that is none of these. */
export function dequantise(type: string, bytes: Uint8Array): Uint8Array | undefined {
  const decoder = decoders[type];
  if (decoder === undefined) return undefined;
  const [decode, elements, size] = decoder;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const out = new Float32Array((bytes.length / size) * elements);
  for (let at = 0, start = 0; at < bytes.length; at += size, start += elements) decode(view, at, out, start);
  return new Uint8Array(out.buffer);
}
