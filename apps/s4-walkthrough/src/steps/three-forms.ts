import { linePlot } from "@mamba-ts/app-figures";
import {
  convolutionKernel,
  convolve,
  discretizeSystem,
  recurrence,
  type S4dInit,
  s4dInit,
  sampledRecurrence,
  sampledScan,
  stepsFromTimes,
} from "@mamba-ts/ssm";
import type { Step } from "../page.js";
import { largestDifference, oscillator, push, spaced } from "./oscillator.js";

/** Recurrence, convolution and scan are one; irregular samples are as exact as regular ones; kernels of S4D. */
export function threeFormsStep(): Step {
  const [delta, n] = [0.05, 240];
  const u = Float64Array.from({ length: n }, (_, t) => push((t + 0.5) * delta));
  const discrete = discretizeSystem("zoh", oscillator, delta);
  const one = recurrence(discrete, u).y;
  const others = {
    convolution: convolve(discrete, u).y,
    "convolution in chunks of 50, state carried": convolve(discrete, u, { chunk: 50 }).y,
    "parallel scan": sampledScan(oscillator, "zoh", u, new Float64Array(n).fill(delta)).y,
  };
  // A sample wherever the input changes, and some in between.
  const stamps = [1, 1.35, 2, 2.1, 3.3, 4, 4.2, 5, 6.7, 7, 8.4, 9.9, 11, 12];
  const sparse = sampledRecurrence(
    oscillator,
    "zoh",
    Float64Array.from(stamps, (t, k) => push((t + (stamps[k - 1] ?? 0)) / 2)),
    stepsFromTimes(stamps, 1),
  ).y;
  const times = spaced(delta, 12, n - 1);
  const inits: readonly S4dInit[] = ["lin", "inv", "legs", "real"];
  const lags = spaced(0, 399, 399);
  const kernels = inits.map((init) => {
    const { A, B } = s4dInit(init, 16);
    const C = { re: new Float64Array(8).fill(1 / 8), im: new Float64Array(8) };
    return convolutionKernel(discretizeSystem("zoh", { form: "diagonal", A, B, C }, 0.01), 400);
  });
  return {
    title: "Three forms of one system",
    text: [
      "The recurrence takes one step at a time and remembers only the state: that is how a signal is streamed. Written out, it is a convolution of the input with the kernel C A^l B, done for all samples at once by Fourier transforms: that is how a model is trained. And since two steps are a step again, an associative scan makes all states in a logarithmic number of rounds: the form that is left when the steps differ.",
      "  y[t] = sum over s of C A^(t-s) B u[s]",
      "Samples at irregular times need no resampling: every one has its own step, and the points below lie on the curve.",
    ],
    table: [
      ["form", "largest difference from the recurrence"],
      ...Object.entries(others).map(([name, y]) => [name, largestDifference(y, one).toExponential(1)]),
    ],
    figures: [
      linePlot({
        title: "240 regular samples, and 14 irregular ones",
        xLabel: "time",
        yLabel: "position",
        series: [
          { name: "recurrence", x: times, y: one },
          { name: "irregular samples", x: stamps, y: sparse, style: "points" },
        ],
      }),
      linePlot({
        title: "Kernels: S4D's first values, 8 modes, before anything is learnt",
        xLabel: "lag",
        yLabel: "C A^l B",
        series: inits.map((init, i) => ({ name: `S4D-${init}`, x: lags, y: kernels[i]! })),
      }),
    ],
  };
}
