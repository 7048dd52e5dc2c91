import type { Backend } from "@mamba-ts/backend";
import type { SegmentPlan } from "@mamba-ts/mamba";
import { fromHost, type Tensor } from "@mamba-ts/tensor";
import type { Runs } from "./state.js";

/**
 * Numbers the sequences of each row, so that attention sees within one only: an id that comes back after another one is a new sequence, as
 * it is to the Mamba layers.
 * @param length - tokens read before
 */
export function advanceRuns({ batch, length: n, marks }: SegmentPlan, before: Runs, length: number): Runs {
  if (marks === undefined && before.tokens === undefined) return before;
  const current = before.current.slice();
  const total = length + n;
  const tokens = new Int32Array(batch * total);
  for (let b = 0; b < batch; b++) {
    if (before.tokens !== undefined) tokens.set(before.tokens.subarray(b * length, (b + 1) * length), b * total);
    for (let t = 0; t < n; t++) {
      const mark = marks?.[b * n + t] ?? 0;
      if (mark === 1) current[b]!++;
      tokens[b * total + length + t] = mark === -1 ? -1 : current[b]!;
    }
  }
  return { current, tokens };
}

/** The ids attention compares: of the last n tokens and of all; undefined where everything is one sequence. */
export function attentionSegments(
  backend: Backend,
  { tokens }: Runs,
  batch: number,
  total: number,
  n: number,
): { readonly query: Tensor; readonly key: Tensor } | undefined {
  if (tokens === undefined) return undefined;
  const query = new Int32Array(batch * n);
  for (let b = 0; b < batch; b++) query.set(tokens.subarray((b + 1) * total - n, (b + 1) * total), b * n);
  return {
    query: fromHost(backend, query, [batch, n], "int32"),
    key: fromHost(backend, tokens, [batch, total], "int32"),
  };
}

/** int32 [batch, n], 0 where a token is padding; undefined if none is. */
export function realTokens(backend: Backend, { batch, length, ids }: SegmentPlan): Tensor | undefined {
  if (ids === undefined || ids.every((id) => id !== -1)) return undefined;
  return fromHost(
    backend,
    ids.map((id) => (id === -1 ? 0 : 1)),
    [batch, length],
    "int32",
  );
}
