/**
 * Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a counter-based generator, so that host
 * and device make the same bits without carrying a state.
 */
const M0 = 0xd2511f53;
const M1 = 0xcd9e8d57;
const W0 = 0x9e3779b9;
const W1 = 0xbb67ae85;

/** The high 32 bits of a 32 x 32 bit product. */
function mulHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const low = aLow * bLow;
  const mid = aHigh * bLow + (low >>> 16);
  const mid2 = aLow * bHigh + (mid & 0xffff);
  return (aHigh * bHigh + Math.floor(mid / 65536) + (mid2 >= 4294967296 ? 65536 : 0) + (mid2 >>> 16)) >>> 0;
}

/** One block of four 32-bit words for a 128-bit counter and a 64-bit key, all as unsigned 32-bit words, low word first. */
export function philox(
  counter: readonly [number, number, number, number],
  key: readonly [number, number],
): Uint32Array {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const high0 = mulHigh(M0, c0);
    const low0 = Math.imul(M0, c0) >>> 0;
    const high1 = mulHigh(M1, c2);
    const low1 = Math.imul(M1, c2) >>> 0;
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0;
    k0 = (k0 + W0) >>> 0;
    k1 = (k1 + W1) >>> 0;
  }
  return Uint32Array.of(c0, c1, c2, c3);
}

/**
 * `count` random 32-bit words for a seed and a stream number (both below 2^53): word i is output i % 4 of the block with counter
 * (floor(i / 4), stream) and key `seed`.
 */
export function randomWords(count: number, seed: number, stream: number): Uint32Array {
  const words = new Uint32Array(count);
  const key = [seed >>> 0, Math.floor(seed / 4294967296) >>> 0] as const;
  for (let i = 0; i < count; i += 4) {
    const block = i / 4;
    const four = philox(
      [block >>> 0, Math.floor(block / 4294967296) >>> 0, stream >>> 0, Math.floor(stream / 4294967296) >>> 0],
      key,
    );
    for (let j = 0; j < 4 && i + j < count; j++) words[i + j] = four[j]!;
  }
  return words;
}
