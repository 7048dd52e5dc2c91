import { InvalidArgumentError } from "@mamba-ts/backend";
import {
  add,
  cast,
  compare,
  fill,
  logSumExp,
  mul,
  reciprocal,
  reshape,
  scatterAdd,
  scope,
  sub,
  sum,
  type Tensor,
  unsqueeze,
  where,
  withoutRecording,
} from "@mamba-ts/tensor";
import type { Routing } from "./moe.js";

/** Tokens that are no padding, as a scalar. */
function realTokens({ real, probabilities }: Routing): Tensor {
  const { backend, dtype, shape } = probabilities;
  return real === undefined ? fill(backend, [], shape[0]!, dtype) : sum(cast(real, dtype));
}

function total(parts: readonly Tensor[]): Tensor {
  return parts.reduce((a, b) => add(a, b));
}

/** At least one, so that padding alone gives a loss of 0. */
function atLeastOne(count: Tensor): Tensor {
  return where(compare("gt", count, 0), count, 1);
}

/** How many choices each expert got before any was dropped: [experts], of the probabilities' dtype, without a gradient. */
export function expertCounts({ choices, probabilities }: Routing): Tensor {
  return withoutRecording(() =>
    scope(() => {
      const flat = reshape(choices, [-1]);
      const ones = fill(flat.backend, flat.shape, 1, probabilities.dtype);
      return scatterAdd([probabilities.shape[1]!], flat, ones, 0);
    }),
  );
}

/** Choices that found their expert full, a scalar without a gradient. */
export function droppedChoices({ choices, indices, probabilities }: Routing): Tensor {
  return withoutRecording(() =>
    scope(() => {
      const kept = (t: Tensor): Tensor => sum(cast(compare("ge", t, 0), probabilities.dtype));
      return sub(kept(choices), kept(indices));
    }),
  );
}

/**
 * Load-balancing loss experts * sum_e f_e P_e: f_e the choices that went to expert e per token, P_e the mean probability of e
 * (arXiv:2101.03961, eq. 4, for one layer and one choice; several layers are taken as one longer batch, as Mixtral's reference does).
 * 1 per choice where the load is even. Throws InvalidArgumentError without a layer.
 */
export function loadBalancingLoss(routings: readonly Routing[]): Tensor {
  if (routings.length === 0) throw new InvalidArgumentError("loadBalancingLoss: there is no routing");
  return scope(() => {
    const experts = routings[0]!.probabilities.shape[1]!;
    const tokens = atLeastOne(total(routings.map(realTokens)));
    const counts = total(routings.map(expertCounts)); // [experts]
    const mass = total(
      routings.map(({ probabilities, real }) =>
        sum(real === undefined ? probabilities : where(unsqueeze(real, 1), probabilities, 0), 0),
      ),
    ); // [experts]
    const perToken = reciprocal(tokens);
    return mul(sum(mul(mul(counts, perToken), mul(mass, perToken))), experts);
  });
}

/** Router z-loss, the mean of logsumexp(logits)^2 over tokens (arXiv:2202.08906, eq. 5): keeps logits small. */
export function routerZLoss(routing: Routing): Tensor {
  return scope(() => {
    const z = logSumExp(routing.logits, 1); // [tokens]
    const squares = mul(z, z);
    const counted = routing.real === undefined ? squares : where(routing.real, squares, 0);
    return mul(sum(counted), reciprocal(atLeastOne(realTokens(routing))));
  });
}
