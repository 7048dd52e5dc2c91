import type { Backend } from "@mamba-ts/backend";
import { add, mul, scope, sum, type Tensor, tensor, valueAndGrad } from "@mamba-ts/tensor";
import { type HostTensors, type Numbers, type OpCase, type OracleResult, RandomInputs, type Tensors } from "./case.js";

/** Largest relative norms ||got - want|| / ||want|| that pass. */
export interface Tolerance {
  readonly forward: number;
  readonly gradient: number;
}
export const tolerances: { readonly [K in "float32" | "float64"]: Tolerance } = {
  float32: { forward: 1e-5, gradient: 1e-4 },
  float64: { forward: 1e-10, gradient: 1e-7 },
};

export interface Failure {
  readonly what: string;
  readonly message: string;
}

/** ||got - want|| / ||want||; NaN must meet NaN, and an empty or zero `want` must be met exactly. */
export function relativeError(got: ArrayLike<number>, want: ArrayLike<number>): number {
  if (got.length !== want.length) return Number.POSITIVE_INFINITY;
  let [difference, norm] = [0, 0];
  for (let i = 0; i < want.length; i++) {
    if (Number.isNaN(want[i]!) !== Number.isNaN(got[i]!)) return Number.POSITIVE_INFINITY;
    if (Number.isNaN(want[i]!) || got[i] === want[i]) continue;
    difference += (got[i]! - want[i]!) ** 2;
    norm += Number.isFinite(want[i]!) ? want[i]! ** 2 : 0;
  }
  if (difference === 0) return 0;
  for (let i = 0; i < want.length; i++) if (got[i] === want[i]) norm += Number.isFinite(want[i]!) ? want[i]! ** 2 : 0;
  return Math.sqrt(difference / norm);
}

/** Runs one case on one backend: results, gradients, and that every buffer is given back. An empty list means it passed. */
export async function runCase(
  opCase: OpCase,
  backend: Backend,
  {
    dtype = "float32",
    tolerance = tolerances[dtype],
    seed = 1,
  }: { readonly dtype?: "float32" | "float64"; readonly tolerance?: Tolerance; readonly seed?: number } = {},
): Promise<Failure[]> {
  const inputs = rounded(opCase.inputs(new RandomInputs(seed)), dtype);
  const before = backend.memory().liveBuffers;
  const failures: Failure[] = [];
  try {
    await checkForward(opCase, backend, inputs, dtype, tolerance.forward, failures);
    if (opCase.noGradient !== true) await checkGradient(opCase, backend, inputs, dtype, tolerance.gradient, failures);
  } catch (error) {
    failures.push({ what: "error", message: error instanceof Error ? error.message : String(error) });
  }
  const leaked = backend.memory().liveBuffers - before;
  if (leaked !== 0) failures.push({ what: "leak", message: `${leaked} buffers are still live` });
  return failures;
}

/** The oracle gets the numbers the backend gets: rounded to its dtype. */
function rounded(inputs: HostTensors, dtype: "float32" | "float64"): HostTensors {
  if (dtype === "float64") return inputs;
  return Object.fromEntries(
    Object.entries(inputs).map(([name, t]) => [
      name,
      t.data instanceof Int32Array ? t : { ...t, data: t.data.map(Math.fround) },
    ]),
  );
}

/** A case's inputs as tensors. */
export function upload(inputs: HostTensors, backend: Backend, dtype: "float32" | "float64"): Tensors {
  return Object.fromEntries(
    Object.entries(inputs).map(([name, { data, shape }]) => [
      name,
      tensor(backend, data, shape, data instanceof Int32Array ? "int32" : dtype),
    ]),
  );
}

function hostData(inputs: HostTensors): { readonly [name: string]: Numbers } {
  return Object.fromEntries(Object.entries(inputs).map(([name, { data }]) => [name, data]));
}

async function checkForward(
  opCase: OpCase,
  backend: Backend,
  inputs: HostTensors,
  dtype: "float32" | "float64",
  tolerance: number,
  failures: Failure[],
): Promise<void> {
  const want = opCase.oracle(hostData(inputs));
  const { tensors, got } = scope(() => {
    const uploaded = upload(inputs, backend, dtype);
    return { tensors: uploaded, got: opCase.run(uploaded, backend) };
  });
  try {
    for (const [name, expected] of Object.entries(want)) {
      const result = got[name];
      if (result === undefined) {
        failures.push({ what: name, message: "is missing" });
        continue;
      }
      const error = relativeError(await result.data(), expected);
      if (!(error <= tolerance))
        failures.push({ what: name, message: `relative error ${error.toExponential(2)}, more than ${tolerance}` });
    }
  } finally {
    for (const t of [...Object.values(tensors), ...Object.values(got)]) t.dispose();
  }
}

/** Random weights turn the outputs into one number, whose gradient sees every element. */
function cotangents(outputs: OracleResult): { readonly [name: string]: Float64Array } {
  const random = new RandomInputs(7);
  return Object.fromEntries(
    Object.entries(outputs).map(([name, data]) => [name, random.normal([data.length]).data as Float64Array]),
  );
}

async function checkGradient(
  opCase: OpCase,
  backend: Backend,
  inputs: HostTensors,
  dtype: "float32" | "float64",
  tolerance: number,
  failures: Failure[],
): Promise<void> {
  const host = hostData(inputs);
  const weights = cotangents(opCase.oracle(host));
  const names = Object.entries(inputs).flatMap(([name, t]) =>
    t.grad !== false && t.data instanceof Float64Array ? [name] : [],
  );
  const { tensors, gradients, loss } = scope(() => {
    const uploaded = upload(inputs, backend, dtype);
    const weightTensors = Object.fromEntries(Object.entries(weights).map(([name, data]) => [name, data]));
    const run = (): { loss: Tensor } => {
      const outputs = opCase.run(uploaded, backend);
      const terms = Object.entries(weightTensors).map(([name, data]) =>
        sum(mul(outputs[name]!, tensor(backend, data, outputs[name]!.shape, dtype))),
      );
      return { loss: terms.reduce((a, b) => add(a, b)) };
    };
    const result = valueAndGrad(
      run,
      names.map((name) => uploaded[name]!),
    );
    return { tensors: uploaded, gradients: result.gradients, loss: result.value.loss };
  });
  try {
    const objective = (values: { readonly [name: string]: Numbers }): number => {
      const outputs = opCase.oracle(values);
      let total = 0;
      for (const [name, w] of Object.entries(weights))
        for (let i = 0; i < w.length; i++) total += w[i]! * outputs[name]![i]!;
      return total;
    };
    for (const [i, name] of names.entries()) {
      const want = centralDifferences(objective, host, name);
      const got = await gradients[i]!.data();
      const error = relativeError(got, want);
      // A gradient that is zero has no norm to compare with.
      const size = Math.hypot(...want);
      const passes = size < 1e-7 ? Math.hypot(...got) < 1e-6 : error <= tolerance;
      if (!passes)
        failures.push({
          what: `gradient of ${name}`,
          message: `relative error ${error.toExponential(2)}, more than ${tolerance}`,
        });
    }
  } finally {
    for (const t of [...Object.values(tensors), ...gradients, loss]) t.dispose();
  }
}

/** Fourth-order central differences of the oracle in float64. */
export function centralDifferences(
  f: (values: { readonly [name: string]: Numbers }) => number,
  host: { readonly [name: string]: Numbers },
  name: string,
): Float64Array {
  const x = Float64Array.from(host[name]!);
  const values = { ...host, [name]: x };
  return x.map((value, i) => {
    const h = 1e-3 * Math.max(1, Math.abs(value));
    const at = (step: number): number => {
      x[i] = value + step * h;
      const result = f(values);
      x[i] = value;
      return result;
    };
    return (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * h);
  });
}
