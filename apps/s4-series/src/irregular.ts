import { linePlot } from "@mamba-ts/app-figures";
import type { Events } from "./data.js";
import { chooseLinear, predictLinear } from "./linear.js";
import { type Example, forecast, type Recipe } from "./model.js";
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
  const trainEnd = Math.floor(waits.length * 0.6);
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
  const testStart = Math.floor(waits.length * 0.8);
  const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);
  const ends = range(testStart, waits.length);
  const tests = ends.map((end) => example(end, true));
  const trainCount = trainEnd - CONTEXT;
  const linear = chooseLinear(
    range(CONTEXT, trainEnd).map((end) => example(end, true)),
    range(trainEnd, testStart).map((end) => example(end, true)),
  );
  const predictions: (readonly [string, Predictions])[] = [
    ["last value", tests.map((e) => Float64Array.of(e.input[2 * CONTEXT - 2]!))],
    ["mean", tests.map(() => new Float64Array(1))],
    ["linear", tests.map((e) => predictLinear(linear, e.input))],
  ];
  for (const timed of [true, false]) {
    const rows = await forecast(
      {
        features: 2,
        outputs: 1,
        example: (i) => example(CONTEXT + i, timed),
        count: trainCount,
        validation: range(trainEnd, testStart).map((end) => example(end, timed)),
        base: (e) => predictLinear(linear, e.input),
      },
      recipe,
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
