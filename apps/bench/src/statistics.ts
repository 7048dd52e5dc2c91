/** The quantile `q` in [0, 1] of numbers in any order, interpolated linearly between neighbours; NaN of none. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = q * (sorted.length - 1);
  const below = sorted[Math.floor(at)] ?? Number.NaN;
  const above = sorted[Math.ceil(at)] ?? Number.NaN;
  return below + (above - below) * (at - Math.floor(at));
}

export interface Summary {
  readonly runs: number;
  readonly median: number;
  /** Distance between the first and the third quartile. */
  readonly iqr: number;
}

export function summarize(values: readonly number[]): Summary {
  return { runs: values.length, median: quantile(values, 0.5), iqr: quantile(values, 0.75) - quantile(values, 0.25) };
}
