/** A complex number. */
export interface Complex {
  readonly re: number;
  readonly im: number;
}

/** Complex numbers as two arrays of one length. */
export interface ComplexArray {
  readonly re: Float64Array;
  readonly im: Float64Array;
}

/** n zeros. */
export function complexArray(n: number): ComplexArray {
  return { re: new Float64Array(n), im: new Float64Array(n) };
}

/** From re, im, re, im, …: how checkpoints hold complex parameters. */
export function fromInterleaved(pairs: ArrayLike<number>): ComplexArray {
  const n = Math.floor(pairs.length / 2);
  return {
    re: Float64Array.from({ length: n }, (_, i) => pairs[2 * i]!),
    im: Float64Array.from({ length: n }, (_, i) => pairs[2 * i + 1]!),
  };
}

/** To re, im, re, im, … */
export function toInterleaved({ re, im }: ComplexArray): Float64Array {
  return Float64Array.from({ length: 2 * re.length }, (_, i) => (i % 2 === 0 ? re : im)[i >> 1]!);
}

/** Element i of an array. */
export function at({ re, im }: ComplexArray, i: number): Complex {
  return { re: re[i]!, im: im[i]! };
}

/** Maps the elements. */
export function mapComplex(x: ComplexArray, f: (z: Complex, i: number) => Complex): ComplexArray {
  const out = complexArray(x.re.length);
  for (let i = 0; i < out.re.length; i++) ({ re: out.re[i], im: out.im[i] } = f(at(x, i), i));
  return out;
}

export function multiply(a: Complex, b: Complex): Complex {
  return { re: a.re * b.re - a.im * b.im, im: a.re * b.im + a.im * b.re };
}

export function divide(a: Complex, b: Complex): Complex {
  const d = b.re * b.re + b.im * b.im;
  return { re: (a.re * b.re + a.im * b.im) / d, im: (a.im * b.re - a.re * b.im) / d };
}

/** scale a + shift, for real scale and shift. */
export function affine(a: Complex, scale: number, shift: number): Complex {
  return { re: scale * a.re + shift, im: scale * a.im };
}

export function complexExp(z: Complex): Complex {
  const r = Math.exp(z.re);
  return { re: r * Math.cos(z.im), im: r * Math.sin(z.im) };
}

/** (exp(z) - 1) / z and its limit 1 at 0, without cancellation near it. */
export function complexExpm1Over(z: Complex): Complex {
  if (z.re === 0 && z.im === 0) return { re: 1, im: 0 };
  const half = Math.sin(z.im / 2);
  const numerator = { re: Math.expm1(z.re) * Math.cos(z.im) - 2 * half * half, im: Math.exp(z.re) * Math.sin(z.im) };
  return divide(numerator, z);
}
