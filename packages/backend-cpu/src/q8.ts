import { f16ToNumber, numberToF16 } from "./half.js";

const BLOCK = 32;
const BYTES = 34;

/** llama.cpp's q8_0: per 32 elements one f16 scale, then 32 int8 multiples of it. */
export function decodeQ8(blocks: Uint8Array): Float32Array {
  const out = new Float32Array((blocks.length / BYTES) * BLOCK);
  const quants = new Int8Array(blocks.buffer, blocks.byteOffset, blocks.length);
  for (let b = 0; b * BYTES < blocks.length; b++) {
    const at = b * BYTES;
    const scale = f16ToNumber(blocks[at]! | (blocks[at + 1]! << 8));
    for (let i = 0; i < BLOCK; i++) out[b * BLOCK + i] = scale * quants[at + 2 + i]!;
  }
  return out;
}

/** Scales are the largest magnitude over 127, rounded to f16; values are divided by the unrounded scale, as llama.cpp does. */
export function encodeQ8(values: Float32Array, blocks: Uint8Array): void {
  const quants = new Int8Array(blocks.buffer, blocks.byteOffset, blocks.length);
  for (let b = 0; b * BLOCK < values.length; b++) {
    let largest = 0;
    for (let i = 0; i < BLOCK; i++) largest = Math.max(largest, Math.abs(values[b * BLOCK + i]!));
    const scale = largest / 127;
    const at = b * BYTES;
    const half = numberToF16(scale);
    blocks[at] = half & 255;
    blocks[at + 1] = half >>> 8;
    for (let i = 0; i < BLOCK; i++) {
      const q = scale === 0 ? 0 : values[b * BLOCK + i]! / scale;
      quants[at + 2 + i] = q < 0 ? -Math.round(-q) : Math.round(q);
    }
  }
}
