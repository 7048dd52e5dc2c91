import { heatMap, linePlot } from "@mamba-ts/app-figures";
import { dplrKernel, hippo, hippoMemory, hippoReconstruct, legsError, nplr } from "@mamba-ts/ssm";
import type { Step } from "../page.js";
import { spaced } from "./oscillator.js";

const LENGTH = 400;

/** HiPPO: a state that holds the best polynomial approximation of all of the past. */
export function memoryStep(quick: boolean): Step & { readonly picture: string } {
  const signal = Float64Array.from(
    { length: LENGTH },
    (_, k) => Math.sin(k / 30) + 0.5 * Math.sin(k / 11 + 1) + (k > 250 ? 0.6 : 0),
  );
  const meanSquare = signal.reduce((s, v) => s + v * v, 0) / LENGTH;
  const times = spaced(0.5, LENGTH - 0.5, LENGTH - 1);
  const ages = times.map((t) => 1 - t / LENGTH);
  const sizes = quick ? [2, 4, 8, 16] : [2, 4, 6, 8, 12, 16, 24, 32, 48];
  const states = sizes.map((n) => hippoMemory("legs", n, signal));
  const measured = states.map((state) => {
    // The reconstruction against the signal as it was held, 8 points a sample.
    const fine = spaced(0.5 / 8, LENGTH - 0.5 / 8, 8 * LENGTH - 1);
    const back = hippoReconstruct(
      "legs",
      state,
      fine.map((t) => 1 - t / LENGTH),
    );
    return Math.sqrt(back.reduce((s, v, i) => s + (v - signal[Math.floor(i / 8)]!) ** 2, 0) / back.length);
  });
  const theory = states.map((state) => Math.sqrt(legsError(meanSquare, state)));
  const shown = quick ? [4, 16] : [4, 12, 48];
  const { A } = hippo("legs", 16);
  const rows = Array.from({ length: 16 }, (_, i) => A.slice(16 * i, 16 * i + 16));
  const { A: lambda, P, B } = nplr("legs", 64);
  const kernel = dplrKernel({ form: "dplr", A: lambda, P, B, C: B }, 0.01, 300);
  const picture = linePlot({
    title: "What HiPPO-LegS remembers of 400 samples",
    xLabel: "time",
    yLabel: "signal",
    series: [
      { name: "signal", x: times, y: signal },
      ...shown.map((n) => ({
        name: `from ${n} numbers`,
        x: times,
        y: hippoReconstruct("legs", states[sizes.indexOf(n)]!, ages),
        style: "dashed" as const,
      })),
    ],
  });
  return {
    title: "HiPPO: what a state should remember",
    text: [
      "Which A remembers best? HiPPO-LegS keeps in its state, at every moment, the coefficients of the polynomial that comes closest to all of the past:",
      "  t c' = A c + B u,   A[n,k] = -sqrt((2n+1)(2k+1)) below the diagonal, -(n+1) on it, 0 above",
      "The basis is orthonormal, so the error is known from the state alone: the signal's mean square less the state's sum of squares. Measured and predicted errors lie on each other.",
      `S4 starts from this A. In the basis of its eigenvectors it is diagonal but for one column: Lambda - P P*. That makes the kernel a handful of Cauchy sums; the eigenvalues of the normal part have the real part ${lambda.re[0]!.toFixed(2)} and imaginary parts up to ${Math.max(...lambda.im.map(Math.abs)).toFixed(0)} (64 states).`,
    ],
    figures: [
      picture,
      linePlot({
        title: "Error of the reconstruction against the size of the state",
        xLabel: "numbers in the state",
        yLabel: "root mean square error",
        logX: true,
        logY: true,
        series: [
          { name: "predicted from the state (Parseval)", x: sizes, y: theory },
          { name: "measured", x: sizes, y: measured, style: "points" },
        ],
      }),
      heatMap({ title: "A of HiPPO-LegS, 16 states", values: rows, rowLabel: "n", columnLabel: "k" }),
      linePlot({
        title: "S4's kernel with this A, 64 states, by Cauchy sums",
        xLabel: "lag",
        yLabel: "C A^l B",
        series: [{ name: "kernel", x: spaced(0, 299, 299), y: kernel }],
      }),
    ],
    picture,
  };
}
