import type { Example } from "./model.js";

export interface Score {
  readonly name: string;
  /** Mean square and mean absolute error, in units of the training part's variance and deviation. */
  readonly mse: number;
  readonly mae: number;
}

export interface Report {
  readonly title: string;
  readonly scores: readonly Score[];
  /** SVG */
  readonly figure: string;
  readonly windows: number;
}

/** Rows of predictions, one per example. */
export type Predictions = readonly Float64Array[];

/** Errors over all outputs of all examples. */
export function score(name: string, predicted: Predictions, examples: readonly Example[]): Score {
  let [square, absolute, count] = [0, 0, 0];
  for (const [i, { target }] of examples.entries())
    for (let k = 0; k < target.length; k++) {
      const error = predicted[i]![k]! - target[k]!;
      square += error * error;
      absolute += Math.abs(error);
      count++;
    }
  return { name, mse: square / count, mae: absolute / count };
}

/** Values less the mean of the first `count`, over their deviation; and the two. */
export function standardise(x: Float64Array, count: number) {
  const past = x.subarray(0, count);
  const centre = past.reduce((a, b) => a + b, 0) / count;
  const deviation = Math.sqrt(past.reduce((s, v) => s + (v - centre) ** 2, 0) / count);
  return { values: x.map((v) => (v - centre) / deviation), centre, deviation };
}

/** A report as text, with the gain or loss against the best baseline. */
export function reportText({ title, scores, windows }: Report, seconds: number): string {
  const own = scores.find((s) => s.name.startsWith("S4D"))!;
  const best = scores.filter((s) => !s.name.startsWith("S4D")).reduce((a, b) => (b.mse < a.mse ? b : a));
  const gain = 100 * (1 - own.mse / best.mse);
  return [
    `${title}: errors on ${windows} windows of the test part, in deviations of the training part (${seconds.toFixed(0)} s)`,
    ...scores.map(({ name, mse, mae }) => `  ${name.padEnd(34)} MSE ${mse.toFixed(4)}  MAE ${mae.toFixed(4)}`),
    `  The MSE of ${own.name} is ${Math.abs(gain).toFixed(1)} % ${gain >= 0 ? "below" : "above"} that of the best baseline, ${best.name}.`,
  ].join("\n");
}
