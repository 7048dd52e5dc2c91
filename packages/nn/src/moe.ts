import { ConfigError } from "@mamba-ts/backend";
import {
  accumulationDType,
  argMax,
  cast,
  compare,
  div,
  fill,
  linearScan,
  moe,
  mul,
  pick,
  range,
  reshape,
  slice,
  softmax,
  stack,
  sub,
  sum,
  type Tensor,
  unsqueeze,
  where,
  withoutRecording,
} from "@mamba-ts/tensor";
import { fanInUniform, type Initialiser } from "./initialisers.js";
import { Linear } from "./layers.js";
import { Module } from "./module.js";
import { Parameter } from "./parameter.js";

export interface MoEOptions {
  readonly width: number;
  /** Width inside each expert. */
  readonly hidden: number;
  readonly experts: number;
  /** Experts per token. */
  readonly topK: number;
  /** "silu" by default. */
  readonly activation?: "relu" | "silu" | "gelu";
  /** E(x) = down (activation(gate x) * up x) rather than down activation(up x). True by default. */
  readonly gated?: boolean;
  /** Scale the chosen experts' probabilities so that they add up to 1. False by default, as in Jamba and Switch. */
  readonly renormalise?: boolean;
  readonly routerInit?: Initialiser;
  /** Of gate and up; PyTorch's default if absent. */
  readonly init?: Initialiser;
  readonly downInit?: Initialiser;
}

/** Where each token went. `tokens` are the rows of the input, batch by batch. */
export interface Routing {
  /** [tokens, experts], float32 at least. */
  readonly logits: Tensor;
  /** [tokens, experts]: softmax of the logits. */
  readonly probabilities: Tensor;
  /** int32 [tokens, topK]: the most probable experts, the first among equals; -1 for padding. */
  readonly choices: Tensor;
  /** `choices` with -1 where an expert had no room left. */
  readonly indices: Tensor;
  /** [tokens, topK]: what each chosen expert's output is multiplied by. */
  readonly weights: Tensor;
  /** int32 [tokens], 0 for padding; undefined if there is none. */
  readonly real: Tensor | undefined;
}

export interface MoECall {
  /** int32 of the input's leading shape, 0 where a token is padding: it goes to no expert and counts nowhere. */
  readonly real?: Tensor | undefined;
  /**
   * Choices each expert takes at most; those beyond, in batch-major order (rows of the batch one after the other, then choices), are
   * dropped. Unlimited by default.
   */
  readonly capacity?: number | undefined;
}

/** The experts' weights, all in one tensor of each kind. */
class Experts extends Module {
  readonly gateProj?: Parameter;
  readonly upProj: Parameter;
  readonly downProj: Parameter;
  constructor({ width, hidden, experts, gated = true, init, downInit }: MoEOptions) {
    super();
    const inner = { init: init ?? fanInUniform(width) };
    if (gated) this.gateProj = new Parameter([experts, hidden, width], inner);
    this.upProj = new Parameter([experts, hidden, width], inner);
    this.downProj = new Parameter([experts, width, hidden], { init: downInit ?? fanInUniform(hidden) });
  }
}

/** Mixture of experts (arXiv:1701.06538): a linear router in float32 picks topK experts per token; only those are computed. */
export class MoE extends Module {
  readonly router: Linear;
  readonly experts: Experts;
  readonly #options: MoEOptions;

  /** Throws ConfigError for counts that make no sense. */
  constructor(options: MoEOptions) {
    super();
    const { width, hidden, experts, topK, routerInit } = options;
    for (const [name, n] of Object.entries({ width, hidden, experts, topK }))
      if (!Number.isInteger(n) || n < 1)
        throw new ConfigError(`mixture of experts: ${name} is ${n}, not a positive integer`);
    if (topK > experts) throw new ConfigError(`mixture of experts: ${topK} experts per token of ${experts} in all`);
    // A rounding there sends tokens to other experts.
    this.router = new Linear(width, experts, { ...(routerInit && { init: routerInit }), inBlocks: false });
    this.experts = new Experts(options);
    this.#options = options;
  }

  /** @param x - [tokens, width]  @param call - `real` [tokens] */
  route(x: Tensor, { real, capacity }: MoECall = {}): Routing {
    const { topK, experts, renormalise = false } = this.#options;
    const wide = accumulationDType(x.dtype);
    const logits = this.router.forward(cast(x, wide), wide); // [tokens, experts]
    const probabilities = softmax(logits, 1);
    const { choices, indices } = withoutRecording(() => {
      const best = topIndices(probabilities, topK); // [tokens, topK]
      const chosen = real === undefined ? best : where(unsqueeze(real, 1), best, -1);
      return { choices: chosen, indices: capacity === undefined ? chosen : withCapacity(chosen, experts, capacity) };
    });
    const taken = Array.from({ length: topK }, (_, j) =>
      pick(probabilities, reshape(slice(choices, 1, j, j + 1), [-1])),
    );
    const scores = stack(taken, 1); // [tokens, topK]; 0 for padding
    const total = sum(scores, 1, { keepDims: true });
    const weights = renormalise ? div(scores, where(compare("gt", total, 0), total, 1)) : scores;
    return { logits, probabilities, choices, indices, weights, real };
  }

  /**
   * @param x - [..., width]
   * @returns y, x's shape (zeros for padding and for tokens whose experts had no room), and the routing
   */
  forward(x: Tensor, { real, capacity }: MoECall = {}): { readonly y: Tensor; readonly routing: Routing } {
    const { width, activation = "silu" } = this.#options;
    const rows = reshape(x, [-1, width]); // [tokens, width]
    const routing = this.route(rows, { real: real === undefined ? undefined : reshape(real, [-1]), capacity });
    const { gateProj, upProj, downProj } = this.experts;
    // Products are in the halves where what flows is: weights that are kept in float32 are rounded for them.
    const isHalf = x.dtype === "bf16" || x.dtype === "f16";
    const factor = ({ value }: Parameter): Tensor => (isHalf ? cast(value, x.dtype) : value);
    const y = moe({
      x: rows,
      indices: routing.indices,
      weights: cast(routing.weights, x.dtype),
      gate: gateProj === undefined ? undefined : factor(gateProj),
      up: factor(upProj),
      down: factor(downProj),
      activation,
    });
    return { y: reshape(y, x.shape), routing };
  }
}

/** The k largest of each row, largest first: int32 [rows, k]. */
function topIndices(scores: Tensor, k: number): Tensor {
  const columns = range(scores.backend, 0, scores.shape[1]!);
  const chosen: Tensor[] = [];
  let rest = scores;
  for (let j = 0; j < k; j++) {
    const best = argMax(rest, 1);
    chosen.push(best);
    if (j + 1 < k) rest = where(compare("eq", columns, unsqueeze(best, 1)), Number.NEGATIVE_INFINITY, rest);
  }
  return stack(chosen, 1);
}

/** -1 in place of every choice that comes after `capacity` earlier ones of the same expert, row by row. Nothing is read back. */
function withCapacity(choices: Tensor, experts: number, capacity: number): Tensor {
  const { backend, shape } = choices;
  const flat = reshape(choices, [-1]);
  // Counting in float32 is exact below 2^24 choices.
  const isExpert = cast(compare("eq", unsqueeze(flat, 1), range(backend, 0, experts)), "float32"); // [choices, experts]
  const running = linearScan(fill(backend, isExpert.shape, 1), isExpert, 0); // how many so far, this one included
  const rank = sub(sum(mul(running, isExpert), 1), 1); // [choices]
  return reshape(where(compare("lt", rank, capacity), flat, -1), shape);
}
