import { linePlot } from "@mamba-ts/app-figures";
import { type Discretization, discretizeSystem, recurrence, simulate } from "@mamba-ts/ssm";
import type { Step } from "../page.js";
import { largestDifference, oscillator, push, spaced } from "./oscillator.js";

const rules: readonly Discretization[] = ["zoh", "bilinear", "euler", "backward-euler"];

/** From a differential equation to a recurrence, by four rules and at several steps. */
export function discretizationStep(): Step {
  const run = (rule: Discretization, delta: number) => {
    const n = Math.round(12 / delta);
    const times = spaced(delta, 12, n - 1);
    // Sample t is the input over the step that ends there.
    const u = Float64Array.from(times, (t) => push(t - delta / 2));
    const exact = simulate(oscillator, push, [0, ...times]).y.slice(1);
    return { times, y: recurrence(discretizeSystem(rule, oscillator, delta), u).y, exact };
  };
  const coarse = rules.map((rule) => ({ rule, ...run(rule, 0.2) }));
  const steps = [0.2, 0.1, 0.05, 0.025, 0.0125];
  const errors = rules.map((rule) =>
    steps.map((delta) => {
      const { y, exact } = run(rule, delta);
      return largestDifference(y, exact);
    }),
  );
  const swings = (v: number): number => (Math.abs(v) < 3 ? v : Number.NaN);
  return {
    title: "Discretization",
    text: [
      "Samples come in steps of Delta, and the equation becomes a recurrence:",
      "  x[t] = A x[t-1] + B u[t]",
      "Zero-order hold takes the input as constant over a step and solves the equation exactly, by the matrix exponential. The bilinear rule is a rational approximation of it, of second order, that keeps stable systems stable. Euler's rule is of first order, and here, at a step of 0.2, it blows up.",
    ],
    figures: [
      linePlot({
        title: "The same push, in steps of 0.2",
        xLabel: "time",
        yLabel: "position",
        series: [
          { name: "exact", x: coarse[0]!.times, y: coarse[0]!.exact },
          ...coarse.map(({ rule, times, y }) => ({ name: rule, x: times, y: y.map(swings), style: "dashed" as const })),
        ],
      }),
      linePlot({
        title: "Largest error against the step: zero-order hold is exact to rounding",
        xLabel: "step",
        yLabel: "error",
        logX: true,
        logY: true,
        series: rules.map((rule, i) => ({ name: rule, x: steps, y: errors[i]! })),
      }),
    ],
  };
}
