import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { expect, it } from "vitest";
import { co2, earthquakes } from "../src/data.js";
import { forecastEvents } from "../src/irregular.js";
import { chooseLinear, fitLinear, type LinearModel, predictLinear, squaredError } from "../src/linear.js";
import { type Example, forecast } from "../src/model.js";
import { forecastSeries } from "../src/regular.js";
import { reportText } from "../src/report.js";

it("reads the series that come with npm: increasing times, no gaps in the values", async () => {
  const series = await co2();
  expect(series.values.length).toBeGreaterThan(700);
  expect(series.values.every(Number.isFinite)).toBe(true);
  const quakes = await earthquakes();
  expect(quakes.times.length).toBeGreaterThan(1600);
  expect(quakes.times.every((t, i) => i === 0 || t > quakes.times[i - 1]!)).toBe(true);
});

it("fits a line through points of a line", () => {
  const inputs = Array.from({ length: 20 }, (_, i) => Float64Array.of(i % 5, (i * i) % 7));
  const targets = inputs.map(([a, b]) => Float64Array.of(2 * a! - b! + 3));
  const model = fitLinear(inputs, targets, 1e-9);
  expect(predictLinear(model, Float64Array.of(10, 20))[0]).toBeCloseTo(3, 4);
});

it("learns a sine that the last value says nothing of, regular or not", async () => {
  const recipe = { backend: createCpuBackend(), dModel: 8, dState: 16, steps: 60, batch: 8, rate: 0.01, models: 1 };
  const task = { context: 24, horizon: 6, season: 12, trainEnd: 0.6, testStart: 0.8 };
  for (const jitter of [0, 0.04]) {
    const times = Float64Array.from({ length: 400 }, (_, i) => i + jitter * Math.sin(7 * i));
    const series = { name: "sine", times, values: times.map((t) => Math.sin(t / 2)) };
    const report = await forecastSeries(series, task, recipe);
    const mse = Object.fromEntries(report.scores.map((s) => [s.name, s.mse]));
    expect(mse["S4D on what linear leaves"]).toBeLessThan(0.2 * mse["last value"]!);
    expect(report.figure).toContain("<svg");
    expect(reportText(report, 1)).toMatch(/MSE of S4D on what linear leaves is [\d.]+ % (above|below)/);
  }
});

it("predicts waiting times that alternate", async () => {
  const recipe = { backend: createCpuBackend(), dModel: 8, dState: 16, steps: 40, batch: 8, rate: 0.01, models: 1 };
  let now = 0;
  const times = Float64Array.from({ length: 300 }, (_, i) => (now += i % 2 === 0 ? 1 : 3));
  const magnitudes = Float64Array.from({ length: 300 }, (_, i) => i % 3);
  const { scores } = await forecastEvents({ name: "clock", times, magnitudes }, recipe);
  const mse = Object.fromEntries(scores.map((s) => [s.name, s.mse]));
  expect(mse["S4D, steps from the time stamps"]).toBeLessThan(0.3);
  expect(mse["mean"]).toBeGreaterThan(0.9);
});

it("keeps the simple forecast where nothing does better on the validation examples", async () => {
  const backend = createCpuBackend();
  const recipe = { backend, dModel: 4, dState: 8, steps: 12, batch: 4, rate: 0.02, models: 2 };
  const base = (e: Pick<Example, "input">): Float64Array => Float64Array.of(e.input[7]!, 2 * e.input[0]!);
  /** The simple forecast is always 1 too low. */
  const example = (i: number): Example => {
    const input = Float64Array.from({ length: 8 }, (_, k) => Math.sin(i + k));
    return { input, target: base({ input }).map((v) => v + 1) };
  };
  const perfect = [1, 2, 3].map(example).map((e) => ({ ...e, target: base(e) }));
  const task = { features: 1, outputs: 2, example, count: 50, base };
  const tests = [60, 61].map(example);
  expect(await forecast({ ...task, validation: perfect }, recipe, tests)).toEqual(tests.map(base));
  const learned = await forecast({ ...task, validation: [70, 71, 72].map(example) }, recipe, tests);
  expect(squaredError(tests, (_, i) => learned[i]!)).toBeLessThan(0.8);
});

it("chooses the ridge by validation: a strong one where the inputs are noise", () => {
  const noise = (n: number, seed: number) => Float64Array.from({ length: n }, (_, i) => Math.sin(1e4 * (i + 1) * seed));
  const pairs = (count: number, seed: number) =>
    Array.from({ length: count }, (_, i) => ({ input: noise(20, seed + i / 7), target: noise(1, 3 * seed + i / 5) }));
  const [train, validation] = [pairs(30, 1), pairs(200, 50)];
  const chosen = chooseLinear(train, validation);
  const careless = fitLinear(
    train.map((e) => e.input),
    train.map((e) => e.target),
    1e-5,
  );
  const error = (model: LinearModel): number => squaredError(validation, (e) => predictLinear(model, e.input));
  expect(error(chosen)).toBeLessThan(0.8 * error(careless));
});
