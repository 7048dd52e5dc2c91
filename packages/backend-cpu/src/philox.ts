/**
 * Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), the counter-based generator behind every
 * random number of the project: the same bits wherever they are made.
 */
const M0 = 0xd2511f53;
const M1 = 0xcd9e8d57;
const W0 = 0x9e3779b9;
const W1 = 0xbb67ae85;

/** The high 32 bits of the product of two unsigned 32-bit numbers, in halves that doubles hold exactly. */
function mulHigh(a: number, b: number): number {
  const [aLow, aHigh, bLow, bHigh] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
  const cross = aHigh * bLow + ((aLow * bLow) >>> 16);
  return aHigh * bHigh + (cross >>> 16) + ((aLow * bHigh + (cross & 0xffff)) >>> 16);
}

/** The high 32 bits of an integer below 2^53. */
function high(n: number): number {
  return Math.floor(n / 2 ** 32);
}

/**
 * The block of four 32-bit words with counter (`block`, `stream`) and key `seed`, all integers in [0, 2^53).
 * @param into - overwritten; its length is 4
 */
export function philox(block: number, stream: number, seed: number, into: Uint32Array): void {
  let [c0, c1, c2, c3] = [block >>> 0, high(block), stream >>> 0, high(stream)];
  let [k0, k1] = [seed >>> 0, high(seed)];
  for (let round = 0; round < 10; round++) {
    const [high0, low0] = [mulHigh(M0, c0), Math.imul(M0, c0)];
    const [high1, low1] = [mulHigh(M1, c2), Math.imul(M1, c2)];
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1 >>> 0;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0 >>> 0;
    k0 = (k0 + W0) >>> 0;
    k1 = (k1 + W1) >>> 0;
  }
  into[0] = c0;
  into[1] = c1;
  into[2] = c2;
  into[3] = c3;
}
