import { type AttentionDescriptor, type FloatDType, InvalidArgumentError, ShapeError } from "@mamba-ts/backend";
import { chunkLength, chunkRanges, GradientSum } from "../chunks.js";
import { fill, range } from "../create.js";
import { dispatch, type FusedDefinition } from "../dispatch.js";
import { withoutRecording } from "../recorder.js";
import { commonBackend, commonDType, expectFloat, expectInt } from "../run.js";
import { scope } from "../scope.js";
import { expectRank, expectShape, show } from "../shape.js";
import { vjp } from "../tape.js";
import type { Tensor } from "../tensor.js";
import { add, compare, div, mul, sub } from "./binary.js";
import { concat } from "./join.js";
import { matmul } from "./matmul.js";
import { max, softmax, sum } from "./reduce.js";
import { accumulationDType, cast, exp } from "./unary.js";
import { permute, reshape, slice, unsqueeze } from "./view.js";
import { where } from "./where.js";

type Name = "q" | "k" | "v" | "querySegments" | "keySegments";
type Args = { readonly [K in Name]?: Tensor | undefined };

/** Attention of queries start … end - 1 to all keys; their scores exist, those of the other queries do not. */
function attendRows(
  q: Tensor,
  { k, v, querySegments, keySegments }: Args,
  start: number,
  d: AttentionDescriptor,
): Tensor {
  const { batch, keys, heads, kvHeads, headDim } = d;
  const rows = q.shape[1]!;
  const type = accumulationDType(d.dtype);
  const perKv = heads / kvHeads;
  // [batch, kvHeads, perKv * rows, headDim] against [batch, kvHeads, keys, headDim]
  const grouped = permute(reshape(cast(q, type), [batch, rows, kvHeads, perKv, headDim]), [0, 2, 3, 1, 4]);
  const queries = reshape(grouped, [batch, kvHeads, perKv * rows, headDim]);
  const kT = permute(cast(k!, type), [0, 2, 1, 3]);
  const scores = reshape(mul(matmul(queries, kT, { transB: true }), d.scale), [batch, kvHeads, perKv, rows, keys]);
  const seen = visible(
    q,
    querySegments === undefined ? undefined : slice(querySegments, 1, start, start + rows),
    keySegments,
    start,
    d,
  );
  const masked = seen === undefined ? scores : where(seen, scores, Number.NEGATIVE_INFINITY);
  const weights = seen === undefined ? softmax(masked, 4) : where(seen, softmaxOrZero(masked), 0);
  const out = matmul(reshape(weights, [batch, kvHeads, perKv * rows, keys]), permute(cast(v!, type), [0, 2, 1, 3]));
  const back = permute(reshape(out, [batch, kvHeads, perKv, rows, headDim]), [0, 3, 1, 2, 4]);
  return cast(reshape(back, [batch, rows, heads, headDim]), d.dtype);
}

/** Softmax whose rows without any finite score are 0 rather than NaN. */
function softmaxOrZero(scores: Tensor): Tensor {
  const top = withoutRecording(() => max(scores, 4, { keepDims: true }));
  const e = exp(sub(scores, where(compare("gt", top, Number.NEGATIVE_INFINITY), top, 0)));
  const total = sum(e, 4, { keepDims: true });
  return div(e, where(compare("gt", total, 0), total, 1));
}

/** int32 mask, broadcastable to [batch, kvHeads, perKv, rows, keys]; undefined if every query sees every key. */
function visible(
  q: Tensor,
  querySegments: Tensor | undefined,
  keySegments: Tensor | undefined,
  start: number,
  d: AttentionDescriptor,
): Tensor | undefined {
  const rows = q.shape[1]!;
  let seen: Tensor | undefined;
  if (d.causal) {
    const last = unsqueeze(add(range(q.backend, start, start + rows), d.keys - d.queries), 1);
    seen = compare("le", range(q.backend, 0, d.keys), last); // [rows, keys]
  }
  if (querySegments === undefined || keySegments === undefined) return seen;
  const ids = unsqueeze(querySegments, 2); // [batch, rows, 1]
  const same = mul(compare("eq", ids, unsqueeze(keySegments, 1)), compare("ge", ids, 0));
  const both = seen === undefined ? same : mul(same, seen);
  return reshape(both, [d.batch, 1, 1, rows, d.keys]);
}

function rangesOf({ batch, queries, keys, heads, dtype }: AttentionDescriptor, like: Tensor) {
  return chunkRanges(queries, chunkLength(like.backend, batch * heads * keys * (dtype === "float64" ? 8 : 4), queries));
}

const definition: FusedDefinition<AttentionDescriptor, Name, "y"> = {
  name: "attention",
  outputs: ({ batch, queries, heads, headDim, dtype }) => ({ y: { shape: [batch, queries, heads, headDim], dtype } }),
  compose(args, d) {
    const parts = rangesOf(d, args.q!).map(({ start, end }) =>
      scope(() => attendRows(slice(args.q!, 1, start, end), args, start, d)),
    );
    return { y: parts.length === 0 ? fill(args.q!.backend, args.q!.shape, 0, d.dtype) : concat(parts, 1) };
  },
  composeBackward(args, d, { y }, needs) {
    const gk = new GradientSum();
    const gv = new GradientSum();
    const gq = rangesOf(d, args.q!).map(({ start, end }) =>
      scope(() => {
        const rows = slice(args.q!, 1, start, end);
        const grads = vjp(
          () => [attendRows(rows, args, start, d)],
          [rows, args.k, args.v],
          [slice(y!, 1, start, end)],
          [needs.has("q"), needs.has("k"), needs.has("v")],
        );
        gk.add(grads[1]);
        gv.add(grads[2]);
        return grads[0];
      }),
    );
    const known = gq.filter((g) => g !== undefined);
    return { q: known.length === 0 ? undefined : concat(known, 1), k: gk.take(), v: gv.take() };
  },
};

/**
 * Grouped-query attention (arXiv:2305.13245), softmax(scale q k^T) v, in memory linear in the number of keys.
 * @param args - q [batch, queries, heads, headDim]; k, v [batch, keys, kvHeads, headDim], kvHeads dividing heads; causal (true by
 * default): query i sees keys up to i + keys - queries, so that with a cache the last query sees the last key;
 * scale: 1 / sqrt(headDim) by default; querySegments? int32 [batch, queries] with keySegments? [batch, keys]: only equal ids that are not negative see each other
 * @returns [batch, queries, heads, headDim]; zeros for a query that sees nothing
 */
export function attention(args: {
  readonly q: Tensor;
  readonly k: Tensor;
  readonly v: Tensor;
  readonly causal?: boolean;
  readonly scale?: number;
  readonly querySegments?: Tensor | undefined;
  readonly keySegments?: Tensor | undefined;
}): Tensor {
  const op = "attention";
  const { q, k, v, causal = true, querySegments, keySegments } = args;
  commonBackend(op, [q, k, v, ...[querySegments, keySegments].filter((t) => t !== undefined)]);
  expectFloat(op, q, "q");
  const dtype = commonDType(op, [q, k, v]) as FloatDType;
  const [batch, queries, heads, headDim] = expectRank(op, "q", q.shape, ["batch", "queries", "heads", "headDim"]) as [
    number,
    number,
    number,
    number,
  ];
  const [, keys, kvHeads] = expectRank(op, "k", k.shape, ["batch", "keys", "kvHeads", "headDim"]) as [
    number,
    number,
    number,
    number,
  ];
  expectShape(op, "k", k.shape, [batch, keys, kvHeads, headDim]);
  expectShape(op, "v", v.shape, k.shape);
  if (kvHeads < 1 || heads % kvHeads !== 0)
    throw new ShapeError(
      `${op}: ${heads} heads are no multiple of ${kvHeads} key-value heads: q ${show(q.shape)}, k ${show(k.shape)}`,
    );
  if (causal && keys < queries)
    throw new ShapeError(
      `${op}: causal needs at least as many keys as queries: q ${show(q.shape)}, k ${show(k.shape)}`,
    );
  if ((querySegments === undefined) !== (keySegments === undefined))
    throw new InvalidArgumentError(`${op}: querySegments and keySegments come together`);
  if (querySegments !== undefined && keySegments !== undefined) {
    expectInt(op, querySegments, "querySegments");
    expectInt(op, keySegments, "keySegments");
    expectShape(op, "querySegments", querySegments.shape, [batch, queries]);
    expectShape(op, "keySegments", keySegments.shape, [batch, keys]);
  }
  const scale = args.scale ?? 1 / Math.sqrt(headDim);
  const descriptor = {
    batch,
    queries,
    keys,
    heads,
    kvHeads,
    headDim,
    dtype,
    causal,
    scale,
    hasSegments: querySegments !== undefined,
  };
  return dispatch(definition, { q, k, v, querySegments, keySegments }, descriptor).y!;
}
