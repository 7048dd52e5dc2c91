import { linePlot } from "@mamba-ts/app-figures";
import { frequencyResponse, impulseResponse, poles, simulate } from "@mamba-ts/ssm";
import type { Step } from "../page.js";
import { oscillator, push, spaced } from "./oscillator.js";

/** A continuous system, in time and in frequency. */
export function continuousStep(): Step {
  const times = spaced(0, 12, 480);
  const { y } = simulate(oscillator, push, times);
  const impulse = impulseResponse(oscillator, times);
  const frequencies = spaced(0.05, 12, 400);
  const response = frequencyResponse(oscillator, frequencies);
  const { re, im } = poles(oscillator);
  return {
    title: "A continuous system",
    text: [
      "A state space model is a differential equation whose state x remembers the past of the input u, and whose output y is read from the state:",
      "  x' = A x + B u,   y = C x + D u",
      `Here a mass hangs on a spring: two numbers, its position and velocity, are all that matters of the past. The poles, the eigenvalues of A, are ${re[0]!.toFixed(2)} ± ${Math.abs(im[0]!).toFixed(2)}i: it swings at the imaginary part and calms down at the real part.`,
    ],
    figures: [
      linePlot({
        title: "A push from time 1 to 4",
        xLabel: "time",
        yLabel: "position",
        series: [
          { name: "input u", x: times, y: Array.from(times, push), style: "steps" },
          { name: "output y", x: times, y },
          { name: "response to an impulse at 0", x: times, y: impulse, style: "dashed" },
        ],
      }),
      linePlot({
        title: "The same system in frequency: it passes slow inputs, and rings near 3",
        xLabel: "angular frequency",
        yLabel: "gain",
        logY: true,
        series: [
          { name: "|C (i w - A)^-1 B|", x: frequencies, y: response.re.map((v, i) => Math.hypot(v, response.im[i]!)) },
        ],
      }),
    ],
  };
}
