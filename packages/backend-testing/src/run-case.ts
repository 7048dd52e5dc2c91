import type { Backend } from "@mamba-ts/backend";
import { add, mul, scope, sum, type Tensor, tensor, valueAndGrad } from "@mamba-ts/tensor";
import type { HostTensors, Numbers, OpCase, Tensors } from "./case.js";
import { type Reference, referenceOf } from "./reference.js";

/** Largest relative norms ||got - want|| / ||want|| that pass. */
export interface Tolerance {
  readonly forward: number;
  readonly gradient: number;
}
/** What a backend has to reach, unless it says otherwise. */
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

/** What is checked: results, gradients, and that every buffer is given back. */
export type Mode = "forward" | "gradient" | "leak";

export interface RunCaseOptions {
  readonly dtype?: "float32" | "float64";
  readonly tolerance?: Tolerance;
  readonly seed?: number;
  /** All of them by default. */
  readonly modes?: readonly Mode[];
}

/** Runs one case on one backend, in memory that was filled with NaN before. An empty list means it passed. */
export async function runCase(
  opCase: OpCase,
  backend: Backend,
  {
    dtype = "float32",
    tolerance = tolerances[dtype],
    seed = 1,
    modes = ["forward", "gradient", "leak"],
  }: RunCaseOptions = {},
): Promise<Failure[]> {
  const reference = referenceOf(opCase, dtype, seed);
  const before = backend.memory().liveBuffers;
  const failures: Failure[] = [];
  try {
    const { inputs, results } = reference;
    poison(backend, [...Object.values(inputs).map(({ data }) => data), ...Object.values(results)], dtype);
    if (modes.includes("forward")) await checkForward(opCase, backend, reference, dtype, tolerance.forward, failures);
    if (modes.includes("gradient") && opCase.noGradient !== true)
      await checkGradient(opCase, backend, reference, dtype, tolerance.gradient, failures);
  } catch (error) {
    failures.push({ what: "error", message: error instanceof Error ? error.message : String(error) });
  }
  const leaked = backend.memory().liveBuffers - before;
  if (modes.includes("leak") && leaked !== 0)
    failures.push({ what: "leak", message: `${leaked} buffers are still live` });
  return failures;
}

/** Fills and frees memory of the sizes that a case needs: an element that a kernel does not write is then NaN, not last time's right value. */
function poison(backend: Backend, sizes: readonly Numbers[], dtype: "float32" | "float64"): void {
  const bufs = sizes.flatMap((data) => {
    const [value, as] = data instanceof Int32Array ? [-(2 ** 31), "int32" as const] : [Number.NaN, dtype];
    return Array.from({ length: 3 }, () => backend.fill([data.length], value, as));
  });
  for (const buf of bufs) backend.free(buf);
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

async function checkForward(
  opCase: OpCase,
  backend: Backend,
  { inputs, results: want }: Reference,
  dtype: "float32" | "float64",
  tolerance: number,
  failures: Failure[],
): Promise<void> {
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

async function checkGradient(
  opCase: OpCase,
  backend: Backend,
  { inputs, weights, gradient }: Reference,
  dtype: "float32" | "float64",
  tolerance: number,
  failures: Failure[],
): Promise<void> {
  const names = Object.entries(inputs).flatMap(([name, t]) =>
    t.grad !== false && t.data instanceof Float64Array ? [name] : [],
  );
  const { tensors, gradients, loss } = scope(() => {
    const uploaded = upload(inputs, backend, dtype);
    const run = (): { loss: Tensor } => {
      const outputs = opCase.run(uploaded, backend);
      const terms = Object.entries(weights).map(([name, data]) =>
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
    for (const [i, name] of names.entries()) {
      const want = gradient(name);
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
