/** Complex Fourier transforms of lengths without prime factors above 7: Stockham's self-sorting passes, radix 4 where it fits. */

interface Pass {
  readonly radix: number;
  /** Length of the transforms that are left, before this pass. */
  readonly length: number;
  /** exp(-2 pi i p j / length) at [p radix + j], parts interleaved. */
  readonly twiddles: Float64Array;
  /** exp(-2 pi i j k / radix) at [j radix + k], parts interleaved. */
  readonly roots: Float64Array;
}

export interface FftPlan {
  readonly passes: readonly Pass[];
  /** Two work arrays of n complex numbers, parts interleaved; the input goes into the first. */
  readonly work: readonly [Float64Array, Float64Array];
}

const plans = new Map<number, FftPlan>();

/** Whether n is a product of 2, 3, 5 and 7. */
export function isSmooth(n: number): boolean {
  let rest = n;
  for (const p of [2, 3, 5, 7]) while (rest > 1 && rest % p === 0) rest /= p;
  return rest === 1;
}

/** The plan for a smooth n; a few are kept, since a model transforms few lengths again and again. */
export function fftPlan(n: number): FftPlan {
  const known = plans.get(n);
  if (known !== undefined) return known;
  const passes: Pass[] = [];
  for (let length = n; length > 1; ) {
    const radix = [4, 2, 3, 5, 7].find((r) => length % r === 0)!;
    passes.push({
      radix,
      length,
      twiddles: rotations(length, (i) => (Math.floor(i / radix) * (i % radix)) / length),
      roots: rotations(radix * radix, (i) => ((Math.floor(i / radix) * (i % radix)) % radix) / radix),
    });
    length /= radix;
  }
  const plan: FftPlan = { passes, work: [new Float64Array(2 * n), new Float64Array(2 * n)] };
  if (plans.size >= 8) plans.clear();
  plans.set(n, plan);
  return plan;
}

/** exp(-2 pi i turns(i)) for i < count. */
function rotations(count: number, turns: (i: number) => number): Float64Array {
  const out = new Float64Array(2 * count);
  for (let i = 0; i < count; i++) {
    out[2 * i] = Math.cos(2 * Math.PI * turns(i));
    out[2 * i + 1] = -Math.sin(2 * Math.PI * turns(i));
  }
  return out;
}

/** Transforms what lies in the plan's first work array; returns the one the result lies in. */
export function runFft({ passes, work }: FftPlan): Float64Array {
  let [from, to] = work;
  let stride = 1;
  for (const pass of passes) {
    if (pass.radix === 4) radix4(pass, stride, from, to);
    else anyRadix(pass, stride, from, to);
    [from, to] = [to, from];
    stride *= pass.radix;
  }
  return from;
}

function radix4({ length, twiddles }: Pass, s: number, x: Float64Array, y: Float64Array): void {
  const m = length / 4;
  const [jump, out] = [2 * s * m, 2 * s];
  for (let p = 0; p < m; p++) {
    const w = 8 * p;
    const w1r = twiddles[w + 2]!;
    const w1i = twiddles[w + 3]!;
    const w2r = twiddles[w + 4]!;
    const w2i = twiddles[w + 5]!;
    const w3r = twiddles[w + 6]!;
    const w3i = twiddles[w + 7]!;
    for (let q = 0; q < s; q++) {
      const a = 2 * (q + s * p);
      const o = 2 * (q + s * 4 * p);
      const ar = x[a]!;
      const ai = x[a + 1]!;
      const br = x[a + jump]!;
      const bi = x[a + jump + 1]!;
      const cr = x[a + 2 * jump]!;
      const ci = x[a + 2 * jump + 1]!;
      const dr = x[a + 3 * jump]!;
      const di = x[a + 3 * jump + 1]!;
      const sr = ar + cr;
      const si = ai + ci;
      const tr = br + dr;
      const ti = bi + di;
      const ur = ar - cr;
      const ui = ai - ci;
      const vr = bi - di; // -i (b - d)
      const vi = dr - br;
      y[o] = sr + tr;
      y[o + 1] = si + ti;
      const e1r = ur + vr;
      const e1i = ui + vi;
      y[o + out] = w1r * e1r - w1i * e1i;
      y[o + out + 1] = w1r * e1i + w1i * e1r;
      const e2r = sr - tr;
      const e2i = si - ti;
      y[o + 2 * out] = w2r * e2r - w2i * e2i;
      y[o + 2 * out + 1] = w2r * e2i + w2i * e2r;
      const e3r = ur - vr;
      const e3i = ui - vi;
      y[o + 3 * out] = w3r * e3r - w3i * e3i;
      y[o + 3 * out + 1] = w3r * e3i + w3i * e3r;
    }
  }
}

function anyRadix({ radix, length, twiddles, roots }: Pass, s: number, x: Float64Array, y: Float64Array): void {
  const m = length / radix;
  for (let p = 0; p < m; p++)
    for (let q = 0; q < s; q++)
      for (let j = 0; j < radix; j++) {
        let re = 0;
        let im = 0;
        for (let k = 0; k < radix; k++) {
          const a = 2 * (q + s * (p + m * k));
          const r = 2 * (j * radix + k);
          re += x[a]! * roots[r]! - x[a + 1]! * roots[r + 1]!;
          im += x[a]! * roots[r + 1]! + x[a + 1]! * roots[r]!;
        }
        const w = 2 * (p * radix + j);
        const o = 2 * (q + s * (radix * p + j));
        y[o] = re * twiddles[w]! - im * twiddles[w + 1]!;
        y[o + 1] = re * twiddles[w + 1]! + im * twiddles[w]!;
      }
}
