import type { Shape } from "@mamba-ts/backend";
import { sizeOf } from "./strides.js";

/**
 * `n` consecutive elements of a result from `to` on; those of operand k lie at `from[k]`, `from[k] + step[k]` and so on.
 * `from` is reused by the next run.
 */
export type Run = (to: number, n: number, from: readonly number[], step: readonly number[]) => void;

interface Axis {
  readonly n: number;
  /** How far a step along the axis takes each operand: 0 where it is broadcast. */
  readonly steps: readonly number[];
}

/**
 * Walks a broadcast result of `shape` in the fewest runs: axes of size 1 vanish, and neighbouring axes that every operand crosses
 * alike count as one, so that equal shapes are a single run and a row vector is one run per row.
 */
export function forEachRun(shape: Shape, operands: readonly Shape[], run: Run): void {
  const total = sizeOf(shape);
  if (total === 0) return;
  const axes = mergedAxes(shape, operands);
  const inner = axes.pop() ?? { n: 1, steps: operands.map(() => 0) };
  const index = axes.map(() => 0);
  const from = operands.map(() => 0);
  for (let to = 0; to < total; to += inner.n) {
    run(to, inner.n, from, inner.steps);
    for (let d = axes.length - 1; d >= 0; d--) {
      const { n, steps } = axes[d]!;
      const wraps = ++index[d]! === n;
      for (let k = 0; k < from.length; k++) from[k] = from[k]! + steps[k]! * (wraps ? 1 - n : 1);
      if (!wraps) break;
      index[d] = 0;
    }
  }
}

/** Outermost first. */
function mergedAxes(shape: Shape, operands: readonly Shape[]): Axis[] {
  const strides = operands.map((own) => stepsOf(own, shape.length));
  const axes: Axis[] = [];
  for (let d = 0; d < shape.length; d++) {
    const n = shape[d]!;
    if (n === 1) continue;
    const steps = strides.map((s) => s[d]!);
    const outer = axes.at(-1);
    if (outer?.steps.every((step, k) => step === steps[k]! * n)) axes[axes.length - 1] = { n: outer.n * n, steps };
    else axes.push({ n, steps });
  }
  return axes;
}

/** Strides of a dense operand, aligned with the last of `rank` axes; 0 where it is broadcast. */
function stepsOf(own: Shape, rank: number): number[] {
  const steps = new Array<number>(rank).fill(0);
  let stride = 1;
  for (let d = own.length - 1, to = rank - 1; d >= 0; d--, to--) {
    steps[to] = own[d] === 1 ? 0 : stride;
    stride *= own[d]!;
  }
  return steps;
}
