/** Least squares with a small ridge: the baseline that forecasting models have to beat. */
export interface LinearModel {
  /** [outputs][inputs + 1], the last weight the constant. */
  readonly weights: readonly Float64Array[];
}

/**
 * Weights that minimise the squared error of targets from inputs, rows of equal length, as many of one as of the other.
 * @param ridge - relative to the mean square of an input
 */
export function fitLinear(
  inputs: readonly Float64Array[],
  targets: readonly Float64Array[],
  ridge = 1e-3,
): LinearModel {
  const [n, outputs] = [inputs[0]!.length + 1, targets[0]!.length];
  const [gram, right, row] = [new Float64Array(n * n), new Float64Array(n * outputs), new Float64Array(n)];
  row[n - 1] = 1;
  for (const [k, input] of inputs.entries()) {
    row.set(input);
    for (let i = 0; i < n; i++) {
      for (let j = 0; j <= i; j++) gram[i * n + j]! += row[i]! * row[j]!;
      for (let o = 0; o < outputs; o++) right[i * outputs + o]! += row[i]! * targets[k]![o]!;
    }
  }
  let trace = 0;
  for (let i = 0; i < n; i++) trace += gram[i * n + i]!;
  for (let i = 0; i < n; i++) gram[i * n + i]! += (ridge * trace) / n;
  // Cholesky, in place: gram = L L^T
  for (let j = 0; j < n; j++) {
    for (let k = 0; k < j; k++) for (let i = j; i < n; i++) gram[i * n + j]! -= gram[i * n + k]! * gram[j * n + k]!;
    const pivot = Math.sqrt(gram[j * n + j]!);
    for (let i = j; i < n; i++) gram[i * n + j]! /= pivot;
  }
  const weights = Array.from({ length: outputs }, (_, o) => {
    const x = Float64Array.from({ length: n }, (_, i) => right[i * outputs + o]!);
    for (let i = 0; i < n; i++) {
      for (let k = 0; k < i; k++) x[i]! -= gram[i * n + k]! * x[k]!;
      x[i]! /= gram[i * n + i]!;
    }
    for (let i = n - 1; i >= 0; i--) {
      for (let k = i + 1; k < n; k++) x[i]! -= gram[k * n + i]! * x[k]!;
      x[i]! /= gram[i * n + i]!;
    }
    return x;
  });
  return { weights };
}

/** The linear model whose ridge does best on validation examples. */
export function chooseLinear(train: readonly Pair[], validation: readonly Pair[]): LinearModel {
  const candidates = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1].map((ridge) =>
    fitLinear(
      train.map((e) => e.input),
      train.map((e) => e.target),
      ridge,
    ),
  );
  const errors = candidates.map((model) => squaredError(validation, (e) => predictLinear(model, e.input)));
  return candidates[errors.indexOf(Math.min(...errors))]!;
}

interface Pair {
  readonly input: Float64Array;
  readonly target: Float64Array;
}

/** Mean over all outputs of all examples. */
export function squaredError<E extends Pair>(
  examples: readonly E[],
  predict: (e: E, i: number) => Float64Array,
): number {
  let [sum, count] = [0, 0];
  for (const [i, e] of examples.entries())
    for (const [k, y] of predict(e, i).entries()) {
      sum += (y - e.target[k]!) ** 2;
      count++;
    }
  return sum / count;
}

/** One row of outputs. */
export function predictLinear({ weights }: LinearModel, input: Float64Array): Float64Array {
  return Float64Array.from(weights, (w) => {
    let sum = w[input.length]!;
    for (let i = 0; i < input.length; i++) sum += w[i]! * input[i]!;
    return sum;
  });
}
