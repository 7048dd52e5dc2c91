import { linePlot } from "@mamba-ts/app-figures";
import { DataError } from "@mamba-ts/backend";
import type { Series } from "./data.js";
import { chooseLinear, predictLinear } from "./linear.js";
import { type Example, forecast, type Recipe } from "./model.js";
import { type Predictions, type Report, score, standardise } from "./report.js";

export interface Task {
  /** Samples that are read, and samples that are forecast. */
  readonly context: number;
  readonly horizon: number;
  /** Samples after which the seasonal baseline repeats. */
  readonly season: number;
  /** Where the training part ends and the test part begins, as shares of the series; nothing is fitted or chosen on the latter. */
  readonly trainEnd: number;
  readonly testStart: number;
}

/** Forecasts a series, and compares with repeating the last value, repeating the last season, and a linear model of the same context. */
export async function forecastSeries(series: Series, task: Task, recipe: Recipe): Promise<Report> {
  const { context, horizon, season } = task;
  const n = series.values.length;
  const [trainEnd, testStart] = [Math.floor(n * task.trainEnd), Math.floor(n * task.testStart)];
  if (trainEnd < 2 * (context + horizon) || n - testStart < horizon + 1)
    throw new DataError(`${series.name}: ${n} samples are too few for a context of ${context} and ${horizon} ahead`);
  const example = windows(series, trainEnd, context, horizon);
  const trainCount = trainEnd - context - horizon;
  /** Where windows of a part end, at most `most` of them. */
  const endsIn = (from: number, to: number, most: number): number[] => {
    const stride = Math.max(1, Math.floor((to - horizon - from) / most));
    const first = Math.max(from, context);
    return Array.from(
      { length: Math.max(0, Math.floor((to - horizon - first) / stride) + 1) },
      (_, i) => first + i * stride,
    );
  };
  const ends = endsIn(testStart, n, 600);
  const tests = ends.map(example);
  const validation = endsIn(trainEnd, testStart, 300).map(example);
  const fitted = Array.from({ length: trainCount }, (_, i) => example(context + i));
  const linear = chooseLinear(fitted, validation);
  const s4 = await forecast(
    {
      features: 1,
      outputs: horizon,
      example: (i) => fitted[i]!,
      count: trainCount,
      validation,
      base: (e) => predictLinear(linear, e.input),
    },
    recipe,
    tests,
  );
  const seasonal = (e: Example): Float64Array =>
    Float64Array.from({ length: horizon }, (_, k) => e.input[context - season + (k % season)]!);
  const predictions: readonly (readonly [string, Predictions])[] = [
    ["last value", tests.map(() => new Float64Array(horizon))],
    ["last season", tests.map(seasonal)],
    ["linear", tests.map((e) => predictLinear(linear, e.input))],
    ["S4D on what linear leaves", s4],
  ];
  return {
    title: series.name,
    windows: tests.length,
    scores: predictions.map(([name, rows]) => score(name, rows, tests)),
    figure: drawWindow(series, task, trainEnd, ends, predictions),
  };
}

/** The window that ends before a sample, relative to its last value: what is forecast are changes. */
function windows(series: Series, trainEnd: number, context: number, horizon: number): (end: number) => Example {
  const { values } = standardise(series.values, trainEnd);
  const { times } = series;
  const gaps = times.map((t, i) => (i === 0 ? times[1]! - t : t - times[i - 1]!));
  const typical = [...gaps].sort((a, b) => a - b)[Math.floor(gaps.length / 2)]!;
  // Months differ by a day or two, and some are missing: those have steps of their own. Hours do not.
  const isRegular = gaps.every((g) => Math.abs(g / typical - 1) < 1e-6);
  return (end) => {
    const last = values[end - 1]!;
    return {
      input: values.slice(end - context, end).map((v) => v - last),
      deltas: isRegular ? undefined : gaps.slice(end - context, end).map((g) => g / typical),
      target: values.slice(end, end + horizon).map((v) => v - last),
    };
  };
}

function drawWindow(
  series: Series,
  { context, horizon }: Task,
  trainEnd: number,
  ends: readonly number[],
  predictions: readonly (readonly [string, Predictions])[],
): string {
  const { deviation } = standardise(series.values, trainEnd);
  const shown = Math.floor(ends.length / 2);
  const end = ends[shown]!;
  const back = Math.min(context, 3 * horizon);
  const from = (start: number, count: number): Float64Array =>
    Float64Array.from({ length: count }, (_, k) => start + k);
  return linePlot({
    title: `${series.name}: ${horizon} samples ahead, in the middle of the test part`,
    xLabel: "samples from now",
    yLabel: "value",
    series: [
      { name: "measured", x: from(-back, back + horizon), y: series.values.slice(end - back, end + horizon) },
      ...predictions.slice(1).map(([name, rows]) => ({
        name,
        x: from(0, horizon),
        y: rows[shown]!.map((v) => v * deviation + series.values[end - 1]!),
        style: "dashed" as const,
      })),
    ],
  });
}
