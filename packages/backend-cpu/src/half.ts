/** Bit conversions of the 16-bit formats (IEEE 754 binary16 and bfloat16), rounding to nearest even. */
const scratch = new Float32Array(1);
const scratchBits = new Uint32Array(scratch.buffer);

/** The value of a bf16: the upper half of a float32. */
export function bf16ToNumber(word: number): number {
  scratchBits[0] = word << 16;
  return scratch[0]!;
}

/** The nearest bf16, after rounding to float32; a NaN stays a quiet NaN. */
export function numberToBf16(x: number): number {
  scratch[0] = x;
  const u = scratchBits[0]!;
  if ((u & 0x7fffffff) > 0x7f800000) return (u >>> 16) | 0x40;
  return ((u + 0x7fff + ((u >>> 16) & 1)) >>> 16) & 0xffff;
}

/** The value of an f16, subnormals included. */
export function f16ToNumber(word: number): number {
  const sign = word & 0x8000 ? -1 : 1;
  const exponent = (word >>> 10) & 31;
  const fraction = word & 0x3ff;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** The nearest f16, after rounding to float32; magnitudes of 65520 and more become infinite. */
export function numberToF16(x: number): number {
  scratch[0] = x;
  const u = scratchBits[0]!;
  const sign = (u >>> 16) & 0x8000;
  const magnitude = u & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    // A float32 in [0.5, 1) counts in steps of 2^-24, f16's smallest number: adding 0.5 rounds to whole ones.
    scratchBits[0] = magnitude;
    scratch[0] = scratch[0]! + 0.5;
    return sign | (scratchBits[0]! - 0x3f000000);
  }
  // Rounding exponent and fraction together lets a carry move into the exponent.
  return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
}

/** Decodes `words[start + i]` to `into[i]`, filling `into`. */
export function decodeBf16(words: Uint16Array, start: number, into: Float32Array): void {
  const bits = new Uint32Array(into.buffer, into.byteOffset, into.length);
  for (let i = 0; i < bits.length; i++) bits[i] = words[start + i]! << 16;
}

let f16Values: Float32Array | undefined;

/** Decodes `words[start + i]` to `into[i]`, filling `into`. */
export function decodeF16(words: Uint16Array, start: number, into: Float32Array): void {
  f16Values ??= Float32Array.from({ length: 65536 }, (_, word) => f16ToNumber(word));
  for (let i = 0; i < into.length; i++) into[i] = f16Values[words[start + i]!]!;
}

/** Encodes all of `values`. */
export function encodeBf16(values: Float32Array, into: Uint16Array): void {
  for (let i = 0; i < values.length; i++) into[i] = numberToBf16(values[i]!);
}

/** Encodes all of `values`. */
export function encodeF16(values: Float32Array, into: Uint16Array): void {
  for (let i = 0; i < values.length; i++) into[i] = numberToF16(values[i]!);
}
