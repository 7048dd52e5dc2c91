import { type Backend, CheckpointError, ShapeError } from "@mamba-ts/backend";
import { encodeSafetensors, memoryReader, openSafetensors, readTensor, tensorToWrite } from "@mamba-ts/checkpoint";
import type { LayerState } from "@mamba-ts/mamba";
import type { KvCache } from "@mamba-ts/nn";
import { copy, keep, sameShape, slice, type Tensor, type TensorOwner, tensorsSymbol } from "@mamba-ts/tensor";
import type { ResolvedJambaConfig } from "./config.js";

/** What one layer remembers: a Mamba layer its convolution and scan, an attention layer every key and value. */
export type LayerMemory = LayerState | KvCache;

/** Whether a layer remembers keys and values, as attention does, rather than a state. */
export function isCache(memory: LayerMemory): memory is KvCache {
  return "k" in memory;
}

/** Which of the tokens read belong together, for attention. */
export interface Runs {
  /** [batch]: which sequence each row is in, counted from 0. */
  readonly current: Int32Array;
  /** [batch, length]: the sequence of every token read, -1 for padding; undefined while all of them are in sequence 0. */
  readonly tokens: Int32Array | undefined;
}

/**
 * All that a Jamba remembers of what it has read: a value. The Mamba layers' part has a fixed size, the attention layers' grows with every
 * token. `forward` takes one and returns another; keeping an old one is how one rewinds.
 */
export class JambaState implements TensorOwner, Disposable {
  #layers: readonly LayerMemory[];
  #length: number;
  #runs: Runs;

  /**
   * @param segments - per row, the id of the segment the state is in; -1 if it has none
   * @param length - tokens read per row, padding included
   */
  constructor(
    layers: readonly LayerMemory[],
    readonly segments: Int32Array,
    length: number,
    runs: Runs,
  ) {
    this.#layers = layers;
    this.#length = length;
    this.#runs = runs;
  }

  get layers(): readonly LayerMemory[] {
    return this.#layers;
  }

  get batch(): number {
    return this.segments.length;
  }

  get length(): number {
    return this.#length;
  }

  get runs(): Runs {
    return this.#runs;
  }

  /** Memory it takes, in bytes, room for tokens to come included. */
  get bytes(): number {
    return this[tensorsSymbol]().reduce((n, t) => n + t.size * (t.dtype === "float64" ? 8 : 4), 0);
  }

  [tensorsSymbol](): Tensor[] {
    return this.#layers.flatMap((m) => (isCache(m) ? [m.k, m.v] : [m.conv, m.ssm]));
  }

  /** A copy with memory of its own, outside every scope. */
  clone(): JambaState {
    const layers = this.#layers.map((m) =>
      isCache(m)
        ? { k: keep(copy(m.k)), v: keep(copy(m.v)), length: m.length }
        : { conv: keep(copy(m.conv)), ssm: keep(copy(m.ssm)) },
    );
    return new JambaState(layers, this.segments.slice(), this.#length, this.#runs);
  }

  /** Takes over another state's content, caches of any length included; all else must agree in shape. How a state given as `into` advances. */
  assign(other: JambaState): void {
    const fits = (m: LayerMemory, o: LayerMemory | undefined): boolean =>
      o !== undefined &&
      (isCache(m)
        ? isCache(o) && [0, 2, 3].every((axis) => m.k.shape[axis] === o.k.shape[axis])
        : !isCache(o) && sameShape(m.conv.shape, o.conv.shape) && sameShape(m.ssm.shape, o.ssm.shape));
    if (this.#layers.length !== other.layers.length || !this.#layers.every((m, i) => fits(m, other.layers[i])))
      throw new ShapeError("state: `into` is of another shape than the state that goes into it");
    const dense = (t: Tensor): Tensor => (t.isDense ? t : copy(t));
    this.#layers = this.#layers.map((m, i) => {
      const o = other.layers[i]!;
      if (isCache(m) && isCache(o)) {
        for (const name of ["k", "v"] as const) if (m[name] !== o[name]) m[name].dispose();
        return { k: keep(dense(o.k)), v: keep(dense(o.v)), length: o.length };
      }
      if (!isCache(m) && !isCache(o))
        for (const name of ["conv", "ssm"] as const) if (m[name] !== o[name]) m[name].assign(dense(o[name]));
      return m;
    });
    this.segments.set(other.segments);
    this.#length = other.length;
    this.#runs = other.runs;
  }

  /** The state as bytes (a safetensors file): store it, send it, and `JambaState.restore` it elsewhere. */
  async save(): Promise<Uint8Array> {
    const views: Tensor[] = [];
    const used = (t: Tensor, length: number): Tensor => {
      const view = slice(t, 1, 0, length);
      if (view !== t) views.push(view);
      return view;
    };
    try {
      const tensors = this.#layers.flatMap((m, i) =>
        isCache(m)
          ? (["k", "v"] as const).map((name) => tensorToWrite(`layers.${i}.${name}`, used(m[name], m.length)))
          : (["conv", "ssm"] as const).map((name) => tensorToWrite(`layers.${i}.${name}`, m[name])),
      );
      return await encodeSafetensors(tensors, {
        format: "mamba-ts.jamba-state.1",
        segments: JSON.stringify([...this.segments]),
        length: String(this.#length),
        current: JSON.stringify([...this.#runs.current]),
        ...(this.#runs.tokens === undefined ? {} : { tokens: JSON.stringify([...this.#runs.tokens]) }),
      });
    } finally {
      for (const view of views) view.dispose();
    }
  }

  /** The inverse of `save`, on any backend. Throws CheckpointError if the bytes are no state of a model of this config. */
  static async restore(
    bytes: Uint8Array,
    { backend, config }: { readonly backend: Backend; readonly config: ResolvedJambaConfig },
  ): Promise<JambaState> {
    const source = await openSafetensors(memoryReader(bytes, "state"));
    const { metadata } = source;
    if (metadata["format"] !== "mamba-ts.jamba-state.1")
      throw new CheckpointError("state: these bytes are no saved state");
    const ids = (key: string): Int32Array => Int32Array.from(JSON.parse(metadata[key] ?? "[]") as number[]);
    const [segments, length] = [ids("segments"), Number(metadata["length"])];
    if (source.names.length !== 2 * config.nLayer)
      throw new CheckpointError(`state: it has ${source.names.length / 2} layers, the model ${config.nLayer}`);
    const made: Tensor[] = [];
    const read = async (name: string, rest: readonly number[]): Promise<Tensor> => {
      const { shape } = source.info(name);
      const want = [segments.length, ...rest];
      if (!sameShape(shape, want))
        throw new CheckpointError(`state: ${name} is [${shape.join(", ")}], this model's is [${want.join(", ")}]`);
      const t = keep(await readTensor(source, name, backend));
      made.push(t);
      return t;
    };
    const { nKvHeads, dModel, nHeads, mamba } = config;
    try {
      const layers: LayerMemory[] = [];
      for (const [i, type] of config.layerTypes.entries())
        if (type === "attention") {
          const rest = [length, nKvHeads, dModel / nHeads];
          layers.push({ k: await read(`layers.${i}.k`, rest), v: await read(`layers.${i}.v`, rest), length });
        } else
          layers.push({
            conv: await read(`layers.${i}.conv`, [mamba.dConv - 1, mamba.dInner]),
            ssm: await read(`layers.${i}.ssm`, [mamba.dInner, mamba.dState]),
          });
      const runs = { current: ids("current"), tokens: "tokens" in metadata ? ids("tokens") : undefined };
      return new JambaState(layers, segments, length, runs);
    } catch (error) {
      for (const t of made) t.dispose();
      throw error;
    }
  }

  dispose(): void {
    for (const t of this[tensorsSymbol]()) t.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
