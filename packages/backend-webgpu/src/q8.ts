/** q8_0 on the device: all quants, then all scales as float32, so that kernels read whole words. */
const BLOCK_BYTES = 34;

/** The value of an f16. */
function f16ToNumber(word: number): number {
  const sign = word & 0x8000 ? -1 : 1;
  const exponent = (word >>> 10) & 31;
  const fraction = word & 0x3ff;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

const scratch = new Float32Array(1);
const scratchBits = new Uint32Array(scratch.buffer);

/** The f16 with exactly this value, which came from one. */
function exactF16(x: number): number {
  scratch[0] = x;
  const u = scratchBits[0]!;
  const sign = (u >>> 16) & 0x8000;
  const magnitude = u & 0x7fffffff;
  if (magnitude >= 0x7f800000) return sign | 0x7c00 | ((magnitude >>> 13) & 0x3ff);
  if (magnitude < 0x38800000) return sign | Math.round(Math.abs(x) * 2 ** 24);
  return sign | ((magnitude - 0x38000000) >>> 13);
}

/** llama.cpp's blocks, an f16 scale and 32 quants each, taken apart. */
export function toDeviceQ8(blocks: Uint8Array): {
  readonly quants: Uint8Array<ArrayBuffer>;
  readonly scales: Float32Array<ArrayBuffer>;
} {
  const n = blocks.length / BLOCK_BYTES;
  const quants = new Uint8Array(32 * n);
  const scales = new Float32Array(n);
  for (let i = 0; i < n; i++) {
    const at = i * BLOCK_BYTES;
    scales[i] = f16ToNumber(blocks[at]! | (blocks[at + 1]! << 8));
    quants.set(blocks.subarray(at + 2, at + BLOCK_BYTES), 32 * i);
  }
  return { quants, scales };
}

/** The inverse of `toDeviceQ8`. */
export function fromDeviceQ8(quants: Uint8Array, scales: Float32Array): ArrayBuffer {
  const blocks = new Uint8Array(scales.length * BLOCK_BYTES);
  for (let i = 0; i < scales.length; i++) {
    const half = exactF16(scales[i]!);
    const at = i * BLOCK_BYTES;
    blocks[at] = half & 255;
    blocks[at + 1] = half >>> 8;
    blocks.set(quants.subarray(32 * i, 32 * i + 32), at + 2);
  }
  return blocks.buffer;
}
