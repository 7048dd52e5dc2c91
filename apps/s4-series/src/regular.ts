import { linePlot } from "@mamba-ts/app-figures";
import { DataError } from "@mamba-ts/backend";
import { Rng } from "@mamba-ts/tensor";
import type { Series } from "./data.js";
import { fitLinear, predictLinear } from "./linear.js";
import { type Example, makeForecaster, predict, type Recipe, trainForecaster } from "./model.js";
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
  const ends: number[] = [];
  const stride = Math.max(1, Math.floor((n - horizon - testStart) / 600));
  for (let end = Math.max(testStart, context); end + horizon <= n; end += stride) ends.push(end);
  const tests = ends.map(example);

  using model = makeForecaster(recipe, 1, horizon);
  await trainForecaster(model, (i) => example(context + i), trainCount, new Rng(2), recipe);
  const fitted = Array.from({ length: trainCount }, (_, i) => example(context + i));
  const linear = fitLinear(
    fitted.map((e) => e.input),
    fitted.map((e) => e.target),
  );
  const seasonal = (e: Example): Float64Array =>
    Float64Array.from({ length: horizon }, (_, k) => e.input[context - season + (k % season)]!);
  const predictions: readonly (readonly [string, Predictions])[] = [
    ["last value", tests.map(() => new Float64Array(horizon))],
    ["last season", tests.map(seasonal)],
    ["linear", tests.map((e) => predictLinear(linear, e.input))],
    ["S4D", await predict(model, tests)],
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
