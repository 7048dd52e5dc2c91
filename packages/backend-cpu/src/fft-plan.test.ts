import { expect, it } from "vitest";
import { fftPlan, isSmooth, runFft } from "./fft-plan.js";

it("is the sum it stands for, at every smooth length up to 130 and some beyond, used again and again", () => {
  const lengths = [...Array.from({ length: 130 }, (_, i) => i + 1).filter(isSmooth), 343, 1024, 1050];
  for (const n of [...lengths, ...lengths.slice(0, 20)]) {
    const x = Float64Array.from({ length: 2 * n }, (_, i) => Math.sin(3.7 * i * i + n));
    const plan = fftPlan(n);
    plan.work[0].set(x);
    const got = runFft(plan);
    for (let k = 0; k < n; k += Math.ceil(n / 40)) {
      let [re, im] = [0, 0];
      for (let j = 0; j < n; j++) {
        const angle = (-2 * Math.PI * ((j * k) % n)) / n;
        re += x[2 * j]! * Math.cos(angle) - x[2 * j + 1]! * Math.sin(angle);
        im += x[2 * j]! * Math.sin(angle) + x[2 * j + 1]! * Math.cos(angle);
      }
      expect(Math.hypot(got[2 * k]! - re, got[2 * k + 1]! - im)).toBeLessThan(1e-12 * n);
    }
  }
});

it("knows which lengths it takes", () => {
  expect([1, 2, 7, 11, 12, 13, 22, 49, 210, 211].filter(isSmooth)).toEqual([1, 2, 7, 12, 49, 210]);
});
