import fc from "fast-check";
import { expect, it } from "vitest";
import { causalConvolution } from "./convolution.js";
import { SsmError } from "./errors.js";
import { fft, ifft, irfft, rfft } from "./fft.js";
import { between, relativeError, uniforms } from "./test-support.js";

it("is the sum it stands for, at every length from 1 to 70 and some beyond", () => {
  for (const n of [...Array.from({ length: 70 }, (_, i) => i + 1), 97, 128, 210]) {
    const random = uniforms(n);
    const x = { re: between(random, n), im: between(random, n) };
    const want = { re: new Float64Array(n), im: new Float64Array(n) };
    for (let k = 0; k < n; k++)
      for (let j = 0; j < n; j++) {
        const angle = (-2 * Math.PI * ((j * k) % n)) / n;
        want.re[k]! += x.re[j]! * Math.cos(angle) - x.im[j]! * Math.sin(angle);
        want.im[k]! += x.re[j]! * Math.sin(angle) + x.im[j]! * Math.cos(angle);
      }
    const got = fft(x);
    const flat = (z: { re: Float64Array; im: Float64Array }) => Float64Array.of(...z.re, ...z.im);
    expect(relativeError(flat(got), flat(want))).toBeLessThan(1e-13);
    expect(relativeError(flat(ifft(got)), flat(x))).toBeLessThan(1e-13);
    const bins = Math.floor(n / 2) + 1;
    const half = rfft(x.re);
    const whole = fft({ re: x.re, im: new Float64Array(n) });
    expect(half.re).toHaveLength(bins);
    expect(relativeError(half.re, whole.re.slice(0, bins), 1)).toBeLessThan(1e-13);
    expect(relativeError(half.im, whole.im.slice(0, bins), 1)).toBeLessThan(1e-13);
    expect(relativeError(irfft(half, n), x.re)).toBeLessThan(1e-13);
  }
});

it("convolves as the double loop does, for kernels shorter and longer than the signal", () => {
  fc.assert(
    fc.property(fc.integer(), fc.nat(50), fc.nat(50), (seed, length, taps) => {
      const random = uniforms(seed);
      const [u, kernel] = [between(random, length), between(random, taps)];
      const want = u.map((_, t) => kernel.reduce((sum, k, i) => (i <= t ? sum + k * u[t - i]! : sum), 0));
      expect(relativeError(causalConvolution(kernel, u), want, 1e-2)).toBeLessThan(1e-12);
    }),
  );
});

it("wants a signal, a positive length and matching bins", () => {
  expect(() => rfft(new Float64Array(0))).toThrow(SsmError);
  expect(() => irfft(rfft(new Float64Array(4)), 0)).toThrow(SsmError);
  expect(() => irfft(rfft(new Float64Array(4)), 7)).toThrow("3 bins given, 7 samples have 4");
  expect(() => fft({ re: new Float64Array(2), im: new Float64Array(3) })).toThrow(SsmError);
});
