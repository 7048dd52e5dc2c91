import { at, complexExp, mapComplex, multiply } from "./complex.js";
import type { DiscreteSystem } from "./discretize-system.js";
import { expectLength, expectSizes, SsmError } from "./errors.js";
import { irfft, rfft } from "./fft.js";
import { convolutionKernel, logarithms } from "./kernel.js";
import { dotProduct, matVec, vecMat } from "./matrix.js";
import { discreteStateSize, outputRow, type RecurrenceOptions, type RecurrenceResult } from "./recurrence.js";
import { expectFinite, missingSamples } from "./system.js";
import { vandermonde } from "./vandermonde.js";

/**
 * Causal convolution y[t] = sum_(s <= t) kernel[t - s] u[s], by the fast Fourier transform.
 * @param u - [length]; none gives nothing  @param kernel - of any length; taps beyond u's length are not used
 * Throws SsmError if a value is not finite: a transform would spread it over all samples, earlier ones included.
 */
export function causalConvolution(kernel: Float64Array, u: Float64Array): Float64Array {
  expectFinite("causalConvolution", "kernel", kernel);
  expectFinite("causalConvolution", "u", u, missingSamples);
  const n = u.length;
  const taps = Math.min(n, kernel.length);
  if (n === 0 || taps === 0) return new Float64Array(n);
  const size = 2 ** Math.ceil(Math.log2(n + taps));
  const padded = (x: Float64Array): Float64Array => {
    const out = new Float64Array(size);
    out.set(x);
    return out;
  };
  const [a, b] = [rfft(padded(kernel.subarray(0, taps))), rfft(padded(u))];
  return irfft(
    mapComplex(a, (z, k) => multiply(z, at(b, k))),
    size,
  ).slice(0, n);
}

export interface ConvolutionOptions extends RecurrenceOptions {
  /** Samples convolved at once, the state carried from one chunk to the next; all by default. */
  readonly chunk?: number;
}

/**
 * A discrete system applied by convolution, chunk by chunk: within a chunk y = K * u + D u + C A^(t+1) x0, and the state at its end is
 * A^L x0 + sum_s A^(L-1-s) B u[s]. Equal to `recurrence` for every chunk length.
 * @param u - [length]
 */
export function convolve(
  system: DiscreteSystem,
  u: Float64Array,
  { initialState, chunk = Math.max(1, u.length) }: ConvolutionOptions = {},
): RecurrenceResult {
  expectSizes("convolve", { chunk });
  if (chunk < 1) throw new SsmError("invalid-argument", "convolve: a chunk has at least one sample");
  expectFinite("convolve", "u", u, missingSamples);
  const size = discreteStateSize(system);
  expectLength("convolve", "initialState", initialState, [size]);
  let state: Float64Array = initialState?.slice() ?? new Float64Array(size);
  const y = new Float64Array(u.length);
  const kernel = convolutionKernel(system, Math.min(chunk, u.length));
  for (let start = 0; start < u.length; start += chunk) {
    const part = u.subarray(start, start + chunk);
    const response = stateResponse(system, state, part.length);
    y.set(
      causalConvolution(kernel, part).map((v, t) => v + system.D * part[t]! + response[t]!),
      start,
    );
    state = stateAfter(system, part, state);
  }
  return { y, finalState: state };
}

/** What a state adds to the outputs after it: C A^(t+1) x0 for t < length. */
export function stateResponse(system: DiscreteSystem, state: Float64Array, length: number): Float64Array {
  expectSizes("stateResponse", { length });
  expectLength("stateResponse", "state", state, [discreteStateSize(system)]);
  if (state.every((v) => v === 0)) return new Float64Array(length);
  if (system.form === "discrete-dense") {
    const out = new Float64Array(length);
    let row = outputRow(system);
    for (let t = 0; t < length; t++) {
      row = vecMat(row, system.A);
      out[t] = dotProduct(row, state);
    }
    return out;
  }
  const n = system.A.re.length;
  const weights = mapComplex(system.C, (c, i) => multiply(c, { re: state[i]!, im: state[n + i]! }));
  return vandermonde(weights, logarithms(system.A), length, 1);
}

/** The state after the samples of `u`. */
export function stateAfter(system: DiscreteSystem, u: Float64Array, state: Float64Array): Float64Array {
  if (system.form === "discrete-dense") {
    let [x, power] = [new Float64Array(state.length), system.B];
    for (let s = u.length - 1; s >= 0; s--) {
      for (let i = 0; i < x.length; i++) x[i]! += power[i]! * u[s]!;
      power = matVec(system.A, power);
    }
    let carried = state;
    for (let s = 0; s < u.length; s++) carried = matVec(system.A, carried);
    x = x.map((v, i) => v + carried[i]!);
    return x;
  }
  const n = system.A.re.length;
  const logs = logarithms(system.A);
  const out = new Float64Array(2 * n);
  for (let i = 0; i < n; i++) {
    // Horner's rule on the samples, from the oldest.
    let [re, im] = [0, 0];
    const a = at(system.A, i);
    for (let s = 0; s < u.length; s++) [re, im] = [re * a.re - im * a.im + u[s]!, re * a.im + im * a.re];
    const driven = multiply({ re, im }, at(system.B, i));
    const power = complexExp({ re: logs.re[i]! * u.length, im: logs.im[i]! * u.length });
    const carried = multiply(power, { re: state[i]!, im: state[n + i]! });
    [out[i], out[n + i]] = [driven.re + carried.re, driven.im + carried.im];
  }
  return out;
}
