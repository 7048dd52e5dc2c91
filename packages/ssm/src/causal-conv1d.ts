import { expectLength, expectSizes, SsmError } from "./errors.js";
import { silu, siluDerivative } from "./functions.js";

export interface ConvArguments {
  readonly batch: number;
  readonly length: number;
  readonly channels: number;
  readonly width: number;
  /** [batch, length, channels] */
  readonly x: Float64Array;
  /** [channels, width] */
  readonly weight: Float64Array;
  /** [channels] */
  readonly bias?: Float64Array;
  readonly activation?: "none" | "silu";
  /** [batch, width - 1, channels]: the inputs before the first, oldest first. */
  readonly initialState?: Float64Array;
  /** [batch, length]: 1 forgets earlier tokens, -1 is skipped as if it were not there. */
  readonly marks?: Int32Array;
}

/** Where the inputs of each window lie: [0, width - 1) in the carried state, then in x; -1 reads as 0. Padding has no window. */
function windows(
  { length, width, marks }: ConvArguments,
  b: number,
): { of: (readonly number[] | undefined)[]; last: readonly number[] } {
  let recent = [-1, ...Array.from({ length: width - 1 }, (_, k) => k)]; // the latest `width` inputs, oldest first
  const of = Array.from({ length }, (_, t) => {
    const mark = marks?.[b * length + t] ?? 0;
    if (mark < 0) return undefined;
    if (mark > 0) recent = recent.map(() => -1);
    recent = [...recent.slice(1), width - 1 + t];
    return recent;
  });
  return { of, last: recent.slice(1) };
}

function check(
  op: string,
  { batch, length, channels, width, x, weight, bias, initialState, marks }: ConvArguments,
): void {
  expectSizes(op, { batch, length, channels, width });
  if (width < 1) throw new SsmError("shape", `${op}: width is ${width}, not at least 1`);
  expectLength(op, "x", x, [batch, length, channels]);
  expectLength(op, "weight", weight, [channels, width]);
  expectLength(op, "bias", bias, [channels]);
  expectLength(op, "initialState", initialState, [batch, width - 1, channels]);
  expectLength(op, "marks", marks, [batch, length]);
}

export interface ConvResult {
  /** [batch, length, channels], 0 at padding */
  readonly y: Float64Array;
  /** [batch, width - 1, channels]: the last inputs that were not skipped, oldest first; 0 where there were fewer. */
  readonly finalState: Float64Array;
}

/**
 * Causal depthwise convolution, y[t, c] = activation(bias[c] + sum_k weight[c, k] x[t - (width - 1) + k, c]), as Mamba applies it
 * before its scan (arXiv:2312.00752, section 3.4). Throws SsmError naming an argument of the wrong size.
 */
export function causalConv1d(args: ConvArguments): ConvResult {
  check("causalConv1d", args);
  const { batch, length, channels, width, activation } = args;
  const y = new Float64Array(batch * length * channels);
  const finalState = new Float64Array(batch * (width - 1) * channels);
  for (let b = 0; b < batch; b++) {
    const { of, last } = windows(args, b);
    for (let c = 0; c < channels; c++) {
      for (let t = 0; t < length; t++) {
        const window = of[t];
        if (window === undefined) continue;
        const sum = weighted(args, b, c, window);
        y[(b * length + t) * channels + c] = activation === "silu" ? silu(sum) : sum;
      }
      last.forEach((at, k) => {
        finalState[(b * (width - 1) + k) * channels + c] = input(args, b, c, at);
      });
    }
  }
  return { y, finalState };
}

function input({ length, channels, width, x, initialState }: ConvArguments, b: number, c: number, at: number): number {
  if (at < 0) return 0;
  if (at >= width - 1) return x[(b * length + at - width + 1) * channels + c]!;
  return initialState?.[(b * (width - 1) + at) * channels + c] ?? 0;
}

function weighted(args: ConvArguments, b: number, c: number, window: readonly number[]): number {
  let sum = args.bias?.[c] ?? 0;
  window.forEach((at, k) => {
    sum += args.weight[c * args.width + k]! * input(args, b, c, at);
  });
  return sum;
}

/** Gradients in the shapes of the arguments; those of absent arguments are taken at zeros. */
export interface ConvGradients {
  readonly x: Float64Array;
  readonly weight: Float64Array;
  readonly bias: Float64Array;
  readonly initialState: Float64Array;
}

/**
 * The exact gradient. At padding that of x is 0, and neither x nor gradY is read.
 * @param gradY - dL/dy [batch, length, channels]
 * @param gradFinalState - dL/d finalState [batch, width - 1, channels]; zeros if absent
 */
export function causalConv1dGradient(
  args: ConvArguments,
  gradY: Float64Array,
  gradFinalState?: Float64Array,
): ConvGradients {
  const op = "causalConv1dGradient";
  check(op, args);
  const { batch, length, channels, width, activation } = args;
  expectLength(op, "gradY", gradY, [batch, length, channels]);
  expectLength(op, "gradFinalState", gradFinalState, [batch, width - 1, channels]);
  const g = {
    x: new Float64Array(batch * length * channels),
    weight: new Float64Array(channels * width),
    bias: new Float64Array(channels),
    initialState: new Float64Array(batch * (width - 1) * channels),
  };
  for (let b = 0; b < batch; b++) {
    const { of, last } = windows(args, b);
    for (let c = 0; c < channels; c++) {
      const give = (at: number, amount: number): void => {
        if (at >= width - 1) g.x[(b * length + at - width + 1) * channels + c]! += amount;
        else if (at >= 0) g.initialState[(b * (width - 1) + at) * channels + c]! += amount;
      };
      of.forEach((window, t) => {
        if (window === undefined) return;
        const gy =
          gradY[(b * length + t) * channels + c]! *
          (activation === "silu" ? siluDerivative(weighted(args, b, c, window)) : 1);
        g.bias[c]! += gy;
        window.forEach((at, k) => {
          g.weight[c * width + k]! += gy * input(args, b, c, at);
          give(at, gy * args.weight[c * width + k]!);
        });
      });
      for (const [k, at] of last.entries()) give(at, gradFinalState?.[(b * (width - 1) + k) * channels + c] ?? 0);
    }
  }
  return g;
}
