/** Bit conversions of the 16-bit formats, rounding to nearest even. */
const bits = new DataView(new ArrayBuffer(4));

function floatBits(x: number): number {
  bits.setFloat32(0, x);
  return bits.getUint32(0);
}

function bitsFloat(u: number): number {
  bits.setUint32(0, u);
  return bits.getFloat32(0);
}

export function bf16ToNumber(u: number): number {
  return bitsFloat((u << 16) >>> 0);
}

export function numberToBf16(x: number): number {
  const u = floatBits(x);
  if ((u & 0x7fffffff) > 0x7f800000) return (u >>> 16) | 0x40; // NaN stays a quiet NaN
  return ((u + 0x7fff + ((u >>> 16) & 1)) >>> 16) & 0xffff;
}

export function f16ToNumber(h: number): number {
  const sign = h & 0x8000 ? -1 : 1;
  const exponent = (h >>> 10) & 31;
  const fraction = h & 0x3ff;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

export function numberToF16(value: number): number {
  const x = Math.fround(value);
  const sign = x < 0 || Object.is(x, -0) ? 0x8000 : 0;
  const a = Math.abs(x);
  if (Number.isNaN(a)) return 0x7e00;
  if (a >= 65520) return sign | 0x7c00;
  if (a < 2 ** -14) return sign | roundEven(a * 2 ** 24);
  const u = floatBits(a);
  const exponent = (u >>> 23) - 112;
  // Adding the rounding increment to exponent and fraction together lets a carry move into the exponent.
  return sign | (((exponent << 10) | ((u >>> 13) & 0x3ff)) + roundUp(u & 0x1fff, (u >>> 13) & 1));
}

function roundUp(rest: number, odd: number): number {
  return rest > 0x1000 || (rest === 0x1000 && odd === 1) ? 1 : 0;
}

function roundEven(x: number): number {
  const down = Math.floor(x);
  const rest = x - down;
  return rest > 0.5 || (rest === 0.5 && down % 2 === 1) ? down + 1 : down;
}
