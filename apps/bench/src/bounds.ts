/** Probes of what plain JavaScript reaches on this machine, one thread. Every other backend brings its own. */
import type { Probe } from "./harness.js";

/** Results go here, so that no engine may drop the work as unused. */
export const sink = new Float64Array(1);

const DEPTH = 256;
const PASSES = 4000;
const left = new Float64Array(4 * DEPTH).map((_, i) => Math.sin(i));
const right = new Float64Array(4 * DEPTH).map((_, i) => Math.cos(i));

/**
 * float64 multiply-adds in a 4 x 4 tile of sums kept in registers, reading panels that stay in the first-level cache: the innermost loop
 * of a matrix product with nothing around it. JavaScript has no fused multiply-add and no vectors.
 */
export const multiplyAdds: Probe = {
  name: "4 x 4 register tile",
  unit: "multiply-adds",
  work: 16 * DEPTH * PASSES,
  run() {
    for (let pass = 0; pass < PASSES; pass++) sink[0] = sink[0]! + tile();
  },
};

function tile(): number {
  let [c00, c01, c02, c03] = [0, 0, 0, 0];
  let [c10, c11, c12, c13] = [0, 0, 0, 0];
  let [c20, c21, c22, c23] = [0, 0, 0, 0];
  let [c30, c31, c32, c33] = [0, 0, 0, 0];
  for (let p = 0; p < 4 * DEPTH; p += 4) {
    const b0 = right[p]!;
    const b1 = right[p + 1]!;
    const b2 = right[p + 2]!;
    const b3 = right[p + 3]!;
    const a0 = left[p]!;
    c00 += a0 * b0;
    c01 += a0 * b1;
    c02 += a0 * b2;
    c03 += a0 * b3;
    const a1 = left[p + 1]!;
    c10 += a1 * b0;
    c11 += a1 * b1;
    c12 += a1 * b2;
    c13 += a1 * b3;
    const a2 = left[p + 2]!;
    c20 += a2 * b0;
    c21 += a2 * b1;
    c22 += a2 * b2;
    c23 += a2 * b3;
    const a3 = left[p + 3]!;
    c30 += a3 * b0;
    c31 += a3 * b1;
    c32 += a3 * b2;
    c33 += a3 * b3;
  }
  return c00 + c01 + c02 + c03 + c10 + c11 + c12 + c13 + c20 + c21 + c22 + c23 + c30 + c31 + c32 + c33;
}

/** Arguments of the size a trained model has: delta A between -2 and 0. */
const exponents = new Float64Array(4096).map((_, i) => -((i * 0.618034) % 2));

/** Math.exp, which every state needs once per token. */
export const exponentials: Probe = {
  name: "Math.exp",
  unit: "exps",
  work: exponents.length * 100,
  run() {
    for (let pass = 0; pass < 100; pass++) sink[0] = sink[0]! + sumOfExps();
  },
};

function sumOfExps(): number {
  let sum = 0;
  for (let i = 0; i < exponents.length; i++) sum += Math.exp(exponents[i]!);
  return sum;
}

const COPIED = 2 ** 23;

/** Bytes read and written by copying a Float32Array that fits no cache. */
export function memoryCopy(): Probe {
  const from = new Float32Array(COPIED).fill(1);
  const to = new Float32Array(COPIED);
  return { name: "Float32Array copy", unit: "bytes moved", work: 2 * from.byteLength, run: () => to.set(from) };
}

/** The probes that bound work on a backend; none are known for backends other than the plain one. */
export function probesFor(backend: { readonly name: string }): readonly Probe[] {
  return backend.name === "cpu" ? [multiplyAdds, exponentials, memoryCopy()] : [];
}
