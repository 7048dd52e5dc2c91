import { type Backend, ConfigError, type FloatDType, ShapeError } from "@mamba-ts/backend";
import { attention, cast, concat, fill, kvAppend, reshape, slice, type Tensor } from "@mamba-ts/tensor";
import type { Initialiser } from "./initialisers.js";
import { Linear } from "./layers.js";
import { Module } from "./module.js";

export interface AttentionOptions {
  readonly dModel: number;
  readonly heads: number;
  /** Key-value heads; each serves heads / kvHeads query heads. As many as heads by default. */
  readonly kvHeads?: number;
  /** dModel / heads by default. */
  readonly headDim?: number;
  readonly bias?: boolean;
  /** Of the four projections; PyTorch's default if absent. */
  readonly init?: Initialiser;
}

/** Keys and values of what has been read: the first `length` of `capacity` slots. */
export interface KvCache {
  /** [batch, capacity, kvHeads, headDim] */
  readonly k: Tensor;
  /** [batch, capacity, kvHeads, headDim] */
  readonly v: Tensor;
  readonly length: number;
}

export interface AttentionCall {
  /** What came before; nothing by default. */
  readonly cache?: KvCache | undefined;
  /** Write into `cache` where it lies, growing it where it is full; not while gradients are recorded. The tensors of the result may be the cache's own. */
  readonly inPlace?: boolean;
  /** int32 ids of the tokens, query [batch, length], and of them after those in the cache, key [batch, cached + length]: only equal ids of at least 0 see each other. */
  readonly segments?: { readonly query: Tensor; readonly key: Tensor } | undefined;
}

/** Causal grouped-query attention (arXiv:2305.13245) between four projections, without positions; scores are scaled by 1 / sqrt(headDim). */
export class Attention extends Module {
  readonly qProj: Linear;
  readonly kProj: Linear;
  readonly vProj: Linear;
  readonly oProj: Linear;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;

  /** Throws ConfigError for sizes that do not divide. */
  constructor({ dModel, heads, kvHeads = heads, headDim = dModel / heads, bias = false, init }: AttentionOptions) {
    super();
    for (const [name, n] of Object.entries({ dModel, heads, kvHeads, headDim }))
      if (!Number.isInteger(n) || n < 1) throw new ConfigError(`attention: ${name} is ${n}, not a positive integer`);
    if (heads % kvHeads !== 0)
      throw new ConfigError(`attention: ${heads} heads are no multiple of ${kvHeads} key-value heads`);
    const options = { bias, ...(init === undefined ? {} : { init }) };
    this.qProj = new Linear(dModel, heads * headDim, options);
    this.kProj = new Linear(dModel, kvHeads * headDim, options);
    this.vProj = new Linear(dModel, kvHeads * headDim, options);
    this.oProj = new Linear(heads * headDim, dModel, options);
    this.heads = heads;
    this.kvHeads = kvHeads;
    this.headDim = headDim;
  }

  /** An empty cache with room for `capacity` tokens of each of `batch` sequences. */
  createCache(backend: Backend, batch: number, capacity: number, dtype: FloatDType): KvCache {
    const make = (): Tensor => fill(backend, [batch, capacity, this.kvHeads, this.headDim], 0, dtype);
    return { k: make(), v: make(), length: 0 };
  }

  /**
   * @param h - [batch, length, dModel]
   * @returns out, the same shape, and the cache with these tokens appended
   */
  forward(
    h: Tensor,
    { cache, inPlace = false, segments }: AttentionCall = {},
  ): { readonly out: Tensor; readonly cache: KvCache } {
    const [batch, length] = h.shape as [number, number, number];
    const { heads, kvHeads, headDim } = this;
    if (cache !== undefined && cache.k.shape[0] !== batch)
      throw new ShapeError(`attention: the cache has ${cache.k.shape[0]} rows, the input [${h.shape.join(", ")}]`);
    // What a cache holds decides the precision of what is compared with it.
    const project = (by: Linear): Tensor => cast(by.forward(h), cache?.k.dtype ?? h.dtype);
    const q = reshape(project(this.qProj), [batch, length, heads, headDim]); // [batch, length, heads, headDim]
    const k = reshape(project(this.kProj), [batch, length, kvHeads, headDim]); // [batch, length, kvHeads, headDim]
    const v = reshape(project(this.vProj), [batch, length, kvHeads, headDim]);
    const next = append(cache, k, v, inPlace);
    const y = attention({
      q,
      k: slice(next.k, 1, 0, next.length), // [batch, cached + length, kvHeads, headDim]
      v: slice(next.v, 1, 0, next.length),
      querySegments: segments?.query,
      keySegments: segments?.key,
    });
    return { out: this.oProj.forward(cast(reshape(y, [batch, length, heads * headDim]), h.dtype)), cache: next };
  }
}

function append(cache: KvCache | undefined, k: Tensor, v: Tensor, inPlace: boolean): KvCache {
  const before = cache?.length ?? 0;
  const length = before + k.shape[1]!;
  if (cache !== undefined && inPlace && length <= cache.k.shape[1]!) {
    if (k.shape[1]! > 0) {
      kvAppend(cache.k, k, before);
      kvAppend(cache.v, v, before);
    }
    return { k: cache.k, v: cache.v, length };
  }
  // A cache that advances in place grows by a quarter at a time, so that its copies cost little and its spare room too.
  const spare = inPlace ? Math.max(16, length >> 2) : 0;
  const join = (old: Tensor | undefined, fresh: Tensor): Tensor => {
    const [batch, , kvHeads, headDim] = fresh.shape as [number, number, number, number];
    const room = spare === 0 ? [] : [fill(fresh.backend, [batch, spare, kvHeads, headDim], 0, fresh.dtype)];
    const past = old === undefined || before === 0 ? [] : [slice(old, 1, 0, before)];
    return concat([...past, fresh, ...room], 1);
  };
  return { k: join(cache?.k, k), v: join(cache?.v, v), length };
}
