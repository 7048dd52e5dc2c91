import { linePlot } from "@mamba-ts/app-figures";
import { selectiveScan } from "@mamba-ts/ssm";
import type { Step } from "../page.js";
import { spaced } from "./oscillator.js";

/** The one change that makes S4 Mamba: the step size depends on the input. */
export function selectionStep(): Step {
  const length = 120;
  const marked = new Map([
    [10, 1],
    [45, -0.7],
    [80, 0.4],
  ]);
  // Noise, and three samples that matter.
  const x = Float64Array.from({ length }, (_, t) => marked.get(t) ?? 0.8 * Math.sin(12.9898 * t * t + 4));
  const run = (delta: (t: number) => number): Float64Array => {
    const deltas = Float64Array.from({ length }, (_, t) => delta(t));
    // The zero-order hold's input is (exp(delta A) - 1) / A B with A = -1; the scan multiplies by delta.
    const B = deltas.map((d) => -Math.expm1(-d) / d);
    const ones = new Float64Array(length).fill(1);
    return selectiveScan({
      batch: 1,
      length,
      dInner: 1,
      dState: 1,
      x,
      delta: deltas,
      A: Float64Array.of(-1),
      B,
      C: ones,
    }).y;
  };
  const times = spaced(0, length - 1, length - 1);
  return {
    title: "Selection",
    text: [
      "All of the above treats every sample alike. Mamba makes the step size a function of the input: a large step says forget, and look at this; a small one says leave the state as it is. Written for one state with A = -1:",
      "  x[t] = exp(-Delta[t]) x[t-1] + (1 - exp(-Delta[t])) u[t]",
      "Below, three samples of a noisy input matter. With one step size for all, the state is an average of what came last; with a step that is large for those three and nearly 0 for the rest, it holds each until the next. The kernel is gone, since it would differ at every sample; the scan remains.",
    ],
    figures: [
      linePlot({
        title: "One step size for all, and one per sample",
        xLabel: "sample",
        yLabel: "value",
        series: [
          { name: "input", x: times, y: x, style: "points" },
          { name: "fixed step of 0.1 (S4)", x: times, y: run(() => 0.1) },
          { name: "selected step (Mamba)", x: times, y: run((t) => (marked.has(t) ? 8 : 1e-3)) },
        ],
      }),
    ],
  };
}
