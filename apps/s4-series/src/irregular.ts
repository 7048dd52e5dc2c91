import { linePlot } from "@mamba-ts/app-figures";
import { Rng } from "@mamba-ts/tensor";
import type { Events } from "./data.js";
import { fitLinear, predictLinear } from "./linear.js";
import { type Example, makeForecaster, predict, type Recipe, trainForecaster } from "./model.js";
import { type Predictions, type Report, score, standardise } from "./report.js";

/** Events that are read. */
const CONTEXT = 64;
/** Steps are cut off at this many typical ones: a state has forgotten all before that anyway. */
const LONGEST = 20;

/**
 * How long until the next event (the logarithm of the waiting time), from the magnitudes and waiting times before. The S4D is trained twice:
 * with steps taken from the time stamps, and with equal steps, to see what the time stamps give.
 */
export async function forecastEvents(events: Events, recipe: Recipe): Promise<Report> {
  const waits = events.times.slice(1).map((t, i) => Math.log(Math.max(1e-4, t - events.times[i]!)));
  const trainEnd = Math.floor(waits.length * 0.7);
  const wait = standardise(waits, trainEnd);
  const magnitude = standardise(events.magnitudes.slice(1), trainEnd).values;
  /** Event i's step is the wait before it; the wait after event `end` - 1 is the target. */
  const example = (end: number, timed: boolean): Example => ({
    input: Float64Array.from(
      { length: 2 * CONTEXT },
      (_, k) => (k % 2 === 0 ? wait.values : magnitude)[end - CONTEXT + (k >> 1)]!,
    ),
    deltas: timed
      ? waits.slice(end - CONTEXT, end).map((v) => Math.min(LONGEST, Math.exp(v - wait.centre)))
      : undefined,
    target: wait.values.slice(end, end + 1),
  });
  const ends = Array.from({ length: waits.length - trainEnd }, (_, i) => trainEnd + i);
  const tests = ends.map((end) => example(end, true));
  const trainCount = trainEnd - CONTEXT;
  const fitted = Array.from({ length: trainCount }, (_, i) => example(CONTEXT + i, true));
  const linear = fitLinear(
    fitted.map((e) => e.input),
    fitted.map((e) => e.target),
    0.03,
  );
  const predictions: (readonly [string, Predictions])[] = [
    ["last value", tests.map((e) => Float64Array.of(e.input[2 * CONTEXT - 2]!))],
    ["mean", tests.map(() => new Float64Array(1))],
    ["linear", tests.map((e) => predictLinear(linear, e.input))],
  ];
  for (const timed of [true, false]) {
    using model = makeForecaster(recipe, 2, 1);
    await trainForecaster(model, (i) => example(CONTEXT + i, timed), trainCount, new Rng(2), recipe);
    const rows = await predict(
      model,
      ends.map((end) => example(end, timed)),
    );
    predictions.push([timed ? "S4D, steps from the time stamps" : "S4D, equal steps", rows]);
  }
  const shown = Math.min(120, ends.length);
  const x = Float64Array.from({ length: shown }, (_, i) => events.times[ends[i]! + 1]!);
  const column = (rows: Predictions): Float64Array => Float64Array.from({ length: shown }, (_, i) => rows[i]![0]!);
  return {
    title: events.name,
    windows: tests.length,
    scores: predictions.map(([name, rows]) => score(name, rows, tests)),
    figure: linePlot({
      title: `${events.name}: how long until the next one`,
      xLabel: "hours since the first event",
      yLabel: "log waiting time, standardised",
      series: [
        { name: "measured", x, y: column(tests.map((e) => e.target)), style: "points" },
        ...predictions.slice(2, 4).map(([name, rows]) => ({ name, x, y: column(rows) })),
      ],
    }),
  };
}
