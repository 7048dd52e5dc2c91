import { type HostTensors, type Numbers, type OpCase, type OracleResult, RandomInputs } from "./case.js";

/** What a case must give, by its definition in float64. */
export interface Reference {
  readonly inputs: HostTensors;
  readonly results: OracleResult;
  /** Random weights that turn the results into one number, whose gradient sees every element. */
  readonly weights: { readonly [name: string]: Float64Array };
  /** The gradient of that number with respect to an input, by central differences. */
  gradient(name: string): Float64Array;
}

/** Differences take most of the suite's time and depend on no backend: a case meets many, fused and composed, right and wrong. */
const known = new WeakMap<OpCase, Map<string, Reference>>();

/** The reference for the numbers a backend of this dtype gets. */
export function referenceOf(opCase: OpCase, dtype: "float32" | "float64", seed: number): Reference {
  const ofCase = known.get(opCase) ?? new Map<string, Reference>();
  known.set(opCase, ofCase);
  const key = `${dtype} ${seed}`;
  const found = ofCase.get(key) ?? makeReference(opCase, dtype, seed);
  ofCase.set(key, found);
  return found;
}

function makeReference(opCase: OpCase, dtype: "float32" | "float64", seed: number): Reference {
  const inputs = rounded(opCase.inputs(new RandomInputs(seed)), dtype);
  const host = Object.fromEntries(Object.entries(inputs).map(([name, { data }]) => [name, data]));
  const results = opCase.oracle(host);
  const random = new RandomInputs(7);
  const weights = Object.fromEntries(
    Object.entries(results).map(([name, data]) => [name, random.normal([data.length]).data as Float64Array]),
  );
  const objective = (values: { readonly [name: string]: Numbers }): number => {
    const outputs = opCase.oracle(values);
    let total = 0;
    for (const [name, w] of Object.entries(weights))
      for (let i = 0; i < w.length; i++) total += w[i]! * outputs[name]![i]!;
    return total;
  };
  const gradients = new Map<string, Float64Array>();
  const gradient = (name: string): Float64Array => {
    const g = gradients.get(name) ?? centralDifferences(objective, host, name);
    gradients.set(name, g);
    return g;
  };
  return { inputs, results, weights, gradient };
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
