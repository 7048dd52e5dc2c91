/**
 * llama.cpp's q8_0 (quantize_row_q8_0_ref): of 32 elements, an f16 scale, then 32 int8 multiples of it. Float32 arithmetic throughout,
 * so that the bytes are the ones that llama.cpp writes.
 */
import { f16ToNumber, numberToF16 } from "./half.js";

const BLOCK = 32;
const BYTES = 34;

/** Decodes elements from `start` (a multiple of 32) on, filling `into`. */
export function decodeQ8(blocks: Uint8Array, start: number, into: Float32Array): void {
  const quants = new Int8Array(blocks.buffer, blocks.byteOffset, blocks.length);
  let at = (start / BLOCK) * BYTES;
  for (let i = 0; i < into.length; i += BLOCK, at += BYTES) {
    const scale = f16ToNumber(blocks[at]! | (blocks[at + 1]! << 8));
    for (let j = 0; j < BLOCK; j++) into[i + j] = scale * quants[at + 2 + j]!;
  }
}

/** Encodes all of `values`, a whole number of blocks. */
export function encodeQ8(values: Float32Array, blocks: Uint8Array): void {
  const quants = new Int8Array(blocks.buffer, blocks.byteOffset, blocks.length);
  for (let i = 0, at = 0; i < values.length; i += BLOCK, at += BYTES) {
    let largest = 0;
    for (let j = 0; j < BLOCK; j++) largest = Math.max(largest, Math.abs(values[i + j]!));
    const scale = Math.fround(largest / 127);
    const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
    const half = numberToF16(scale);
    blocks[at] = half & 255;
    blocks[at + 1] = half >>> 8;
    for (let j = 0; j < BLOCK; j++) {
      const q = Math.fround(values[i + j]! * inverse);
      quants[at + 2 + j] = q < 0 ? -Math.round(-q) : Math.round(q); // ties away from zero, as C's roundf
    }
  }
}
