/** A linear or logarithmic axis: where values lie between 0 and 1, and which of them are written. */
export interface Scale {
  at(x: number): number;
  readonly ticks: readonly number[];
}

/** Throws RangeError if no value can be shown: none is finite, or none is positive on a logarithmic axis. */
export function scaleOf(values: readonly number[], log: boolean): Scale {
  const shown = values.filter((v) => Number.isFinite(v) && (!log || v > 0));
  if (shown.length === 0) throw new RangeError("plot: there is no value to show");
  let low = shown.reduce((a, b) => Math.min(a, b));
  let high = shown.reduce((a, b) => Math.max(a, b));
  if (log) {
    const [from, to] = [
      Math.floor(Math.log10(low)),
      Math.max(Math.ceil(Math.log10(high)), Math.floor(Math.log10(low)) + 1),
    ];
    const step = Math.ceil((to - from) / 8);
    const ticks = Array.from({ length: Math.floor((to - from) / step) + 1 }, (_, i) => 10 ** (from + i * step));
    return { at: (x) => (Math.log10(x) - from) / (to - from), ticks };
  }
  if (high === low) [low, high] = [low - 0.5, high + 0.5];
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough)!;
  const [first, last] = [Math.ceil(low / step - 1e-9), Math.floor(high / step + 1e-9)];
  const ticks = Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
  return { at: (x) => (x - low) / (high - low), ticks };
}
