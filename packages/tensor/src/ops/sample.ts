import { type Backend, InvalidArgumentError, type SampleDescriptor } from "@mamba-ts/backend";
import { fromHost } from "../create.js";
import { kernelFor, reportDispatch, withNamedOperands, wrap } from "../dispatch.js";
import { randomWords } from "../philox.js";
import { withoutRecording } from "../recorder.js";
import { commonBackend, expectFloat } from "../run.js";
import { scope } from "../scope.js";
import { expectRank } from "../shape.js";
import type { Tensor } from "../tensor.js";
import { add, compare, mul, sub } from "./binary.js";
import { pick } from "./gather.js";
import { argMax, logSumExp, max, softmax, sum } from "./reduce.js";
import { cast } from "./unary.js";
import { where } from "./where.js";

export interface SampleOptions {
  /** 0 takes the most probable token. */
  readonly temperature?: number;
  /** Keep the k most probable tokens; 0 keeps all. */
  readonly topK?: number;
  /** Keep the smallest set of most probable tokens that reaches this probability (arXiv:1904.09751), in (0, 1]. */
  readonly topP?: number;
  /** Drop tokens less probable than this fraction of the most probable one (arXiv:2407.01082), in [0, 1]. */
  readonly minP?: number;
  /** Integers below 2^53: the same pair draws the same tokens from the same logits, on any backend up to rounding. */
  readonly seed?: number;
  readonly counter?: number;
}

export interface SampleResult {
  /** int32 [batch] */
  readonly token: Tensor;
  /** [batch], float32: the token's log-probability under softmax(logits), whatever the options are. */
  readonly logprob: Tensor;
}

/** Draws one token per row of logits [batch, vocab]. Temperature first, then top-k, top-p and min-p, each on what the former left, renormalised. */
export function sample(logits: Tensor, options: SampleOptions = {}): SampleResult {
  const [backend, descriptor] = describe(logits, options);
  const kernel = kernelFor(backend, "sample", descriptor);
  reportDispatch("sample", "forward", kernel === undefined ? "composed" : "fused");
  return withoutRecording(() => {
    if (kernel === undefined) return scope(() => composed(cast(logits, "float32"), descriptor));
    const { outputs } = withNamedOperands(["logits"], [logits], kernel.strided, (operands) =>
      kernel.op.forward(operands, descriptor, { save: false }),
    );
    const shape = [descriptor.batch];
    const { token, logprob } = wrap(backend, outputs, {
      token: { shape, dtype: "int32" },
      logprob: { shape, dtype: "float32" },
    });
    return { token: token!, logprob: logprob! };
  });
}

/** Throws InvalidArgumentError naming the first option that is out of its range. */
export function expectSampleOptions(options: SampleOptions): void {
  const { temperature = 1, topK = 0, topP = 1, minP = 0, seed = 0, counter = 0 } = options;
  const demand = (ok: boolean, name: string, value: number, range: string): void => {
    if (!ok) throw new InvalidArgumentError(`sample: ${name} is ${value}, not ${range}`);
  };
  demand(Number.isFinite(temperature) && temperature >= 0, "temperature", temperature, "a finite number of at least 0");
  demand(Number.isInteger(topK) && topK >= 0, "topK", topK, "an integer of at least 0");
  demand(topP > 0 && topP <= 1, "topP", topP, "in (0, 1]");
  demand(minP >= 0 && minP <= 1, "minP", minP, "in [0, 1]");
  demand(Number.isSafeInteger(seed) && seed >= 0, "seed", seed, "an integer in [0, 2^53)");
  demand(Number.isSafeInteger(counter) && counter >= 0, "counter", counter, "an integer in [0, 2^53)");
}

/** What the options ask of logits [batch, vocab], and where those are. */
export function describe(logits: Tensor, options: SampleOptions, inPlace = false): [Backend, SampleDescriptor] {
  const op = "sample";
  expectFloat(op, logits, "logits");
  const [batch, vocab] = expectRank(op, "logits", logits.shape, ["batch", "vocab"]) as [number, number];
  expectSampleOptions(options);
  if (vocab < 1) throw new InvalidArgumentError(`sample: the vocabulary size is ${vocab}, not positive`);
  const { temperature = 1, topK = 0, topP = 1, minP = 0, seed = 0, counter = 0 } = options;
  const kept = topK >= vocab ? 0 : topK;
  return [commonBackend(op, [logits]), { batch, vocab, temperature, topK: kept, topP, minP, seed, counter, inPlace }];
}

function composed(logits: Tensor, d: SampleDescriptor): SampleResult {
  const token = d.temperature === 0 ? argMax(logits, 1) : draw(mul(logits, 1 / d.temperature), d);
  return { token, logprob: sub(pick(logits, token), logSumExp(logits, 1)) };
}

function draw(logits: Tensor, d: SampleDescriptor): Tensor {
  const drop = (scores: Tensor, kept: Tensor): Tensor => where(kept, scores, Number.NEGATIVE_INFINITY);
  let scores = logits;
  if (d.topK > 0)
    scores = drop(scores, compare("ge", scores, largestFloor(softmax(scores, 1), scores, d.topK, "count")));
  if (d.topP < 1) {
    const p = softmax(scores, 1);
    scores = drop(scores, compare("ge", p, largestFloor(p, p, d.topP, "mass")));
  }
  if (d.minP > 0) {
    const p = softmax(scores, 1);
    scores = drop(scores, compare("ge", p, mul(max(p, 1, { keepDims: true }), d.minP)));
  }
  const noise = Float64Array.from(
    randomWords(d.batch * d.vocab, d.seed, d.counter),
    (w) => -Math.log(-Math.log((w + 0.5) / 4294967296)),
  );
  return argMax(add(scores, fromHost(scores.backend, noise, [d.batch, d.vocab], "float32")), 1);
}

/**
 * The largest threshold t per row for which the elements of `keys` at or above t are `want` in number, or in mass of `p`: bisection
 * until neighbouring floats are left, so that no sorting is needed. [batch, 1]
 */
function largestFloor(p: Tensor, keys: Tensor, want: number, measure: "count" | "mass"): Tensor {
  let high = add(max(keys, 1, { keepDims: true }), 1);
  let low = mul(max(mul(where(compare("gt", keys, Number.NEGATIVE_INFINITY), keys, 0), -1), 1, { keepDims: true }), -1);
  for (let i = 0; i < 64; i++) {
    [low, high] = scope(() => {
      const mid = mul(add(low, high), 0.5);
      const kept = compare("ge", keys, mid);
      const reached = sum(measure === "count" ? cast(kept, p.dtype) : where(kept, p, 0), 1, { keepDims: true });
      const enough = compare("ge", reached, want);
      return [where(enough, mid, low), where(enough, high, mid)] as [Tensor, Tensor];
    });
  }
  return low;
}
