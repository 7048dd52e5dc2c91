import { type Backend, CheckpointError, ShapeError } from "@mamba-ts/backend";
import { encodeSafetensors, memoryReader, openSafetensors, readTensor, tensorToWrite } from "@mamba-ts/checkpoint";
import { copy, keep, sameShape, slice, type Tensor, type TensorOwner, tensorsSymbol, zeros } from "@mamba-ts/tensor";
import type { ResolvedMambaConfig } from "./config.js";

/** What one layer remembers. */
export interface LayerState {
  /** [batch, dConv - 1, dInner]: the convolution's latest inputs, oldest first. */
  readonly conv: Tensor;
  /** [batch, dInner, dState]: the scan's state h. */
  readonly ssm: Tensor;
}

/**
 * All that a Mamba remembers of what it has read: a value of fixed size. `forward` takes one and returns another; keeping an old one is
 * how one rewinds.
 */
export class MambaState implements TensorOwner, Disposable {
  /** @param segments - per row, the id of the segment the state is in; -1 if it has none */
  constructor(
    readonly layers: readonly LayerState[],
    readonly segments: Int32Array,
  ) {}

  /** A fresh state for `batch` sequences, owned by the caller. */
  static create(
    backend: Backend,
    { nLayer, dConv, dInner, dState }: ResolvedMambaConfig,
    batch: number,
    dtype: "float32" | "float64",
  ): MambaState {
    const layer = (): LayerState => ({
      conv: keep(zeros(backend, [batch, dConv - 1, dInner], dtype)),
      ssm: keep(zeros(backend, [batch, dInner, dState], dtype)),
    });
    return new MambaState(Array.from({ length: nLayer }, layer), new Int32Array(batch).fill(-1));
  }

  get batch(): number {
    return this.segments.length;
  }

  /** Memory it takes, in bytes, in float32. */
  get bytes(): number {
    return this[tensorsSymbol]().reduce((n, t) => n + t.size * (t.dtype === "float64" ? 8 : 4), 0);
  }

  [tensorsSymbol](): Tensor[] {
    return this.layers.flatMap(({ conv, ssm }) => [conv, ssm]);
  }

  /** A copy with memory of its own, outside every scope. */
  clone(): MambaState {
    return new MambaState(
      this.layers.map(({ conv, ssm }) => ({ conv: keep(copy(conv)), ssm: keep(copy(ssm)) })),
      this.segments.slice(),
    );
  }

  /** The state of one row, a view, as a batch of one in segment `id`. */
  row(index: number, id: number): MambaState {
    const pick = (t: Tensor): Tensor => slice(t, 0, index, index + 1);
    return new MambaState(
      this.layers.map(({ conv, ssm }) => ({ conv: pick(conv), ssm: pick(ssm) })),
      Int32Array.of(id),
    );
  }

  /** Takes over another state's content; shapes must agree. How a state given as `into` advances. */
  assign(other: MambaState): void {
    const [mine, theirs] = [this[tensorsSymbol](), other[tensorsSymbol]()];
    if (mine.length !== theirs.length || mine.some((t, i) => !sameShape(t.shape, theirs[i]!.shape)))
      throw new ShapeError("state: `into` is of another shape than the state that goes into it");
    for (const [i, t] of mine.entries()) {
      const next = theirs[i]!;
      // A composition may hand out a view of something larger.
      if (t !== next) t.assign(next.isDense ? next : copy(next));
    }
    this.segments.set(other.segments);
  }

  /** The state as bytes (a safetensors file): store it, send it, and `MambaState.restore` it elsewhere. */
  async save(): Promise<Uint8Array> {
    const tensors = this.layers.flatMap(({ conv, ssm }, i) => [
      tensorToWrite(`layers.${i}.conv`, conv),
      tensorToWrite(`layers.${i}.ssm`, ssm),
    ]);
    return encodeSafetensors(tensors, { format: "mamba-ts.state.1", segments: JSON.stringify([...this.segments]) });
  }

  /** The inverse of `save`, on any backend. Throws CheckpointError if the bytes are no state of a model of this config. */
  static async restore(
    bytes: Uint8Array,
    { backend, config }: { readonly backend: Backend; readonly config: ResolvedMambaConfig },
  ): Promise<MambaState> {
    const source = await openSafetensors(memoryReader(bytes, "state"));
    if (source.metadata["format"] !== "mamba-ts.state.1")
      throw new CheckpointError("state: these bytes are no saved state");
    const segments = readSegments(source.metadata["segments"]);
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
    const { dConv, dInner, dState, nLayer } = config;
    if (source.names.length !== 2 * nLayer)
      throw new CheckpointError(`state: it has ${source.names.length / 2} layers, the model ${nLayer}`);
    const layers: LayerState[] = [];
    try {
      for (let i = 0; i < nLayer; i++)
        layers.push({
          conv: await read(`layers.${i}.conv`, [dConv - 1, dInner]),
          ssm: await read(`layers.${i}.ssm`, [dInner, dState]),
        });
    } catch (error) {
      for (const t of made) t.dispose();
      throw error;
    }
    return new MambaState(layers, segments);
  }

  dispose(): void {
    for (const t of this[tensorsSymbol]()) t.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function readSegments(text: string | undefined): Int32Array {
  let ids: unknown;
  try {
    ids = JSON.parse(text ?? "");
  } catch {}
  if (!Array.isArray(ids) || ids.length === 0 || !ids.every((id) => Number.isInteger(id) && id >= -1))
    throw new CheckpointError("state: its segments are no list of ids");
  return Int32Array.from(ids as number[]);
}
