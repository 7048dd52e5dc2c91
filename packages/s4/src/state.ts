import { type Backend, CheckpointError } from "@mamba-ts/backend";
import { encodeSafetensors, memoryReader, openSafetensors, readTensor, tensorToWrite } from "@mamba-ts/checkpoint";
import { copy, keep, sameShape, type Tensor, type TensorOwner, tensorsSymbol } from "@mamba-ts/tensor";
import type { ResolvedS4Config } from "./config.js";

/** What an S4 remembers of what it has read: [batch, dModel, dState] a layer, (Re x, Im x). A value: `forward` returns another. */
export class S4State implements TensorOwner, Disposable {
  constructor(readonly layers: readonly Tensor[]) {}

  /** Memory it takes, in bytes. */
  get bytes(): number {
    return this.layers.reduce((n, t) => n + t.size * (t.dtype === "float64" ? 8 : 4), 0);
  }

  [tensorsSymbol](): Tensor[] {
    return [...this.layers];
  }

  /** A copy with memory of its own, outside every scope. */
  clone(): S4State {
    return new S4State(this.layers.map((t) => keep(copy(t))));
  }

  /** The state as bytes (a safetensors file), for `S4State.restore`. */
  async save(): Promise<Uint8Array> {
    const tensors = this.layers.map((t, i) => tensorToWrite(`layers.${i}`, t));
    return encodeSafetensors(tensors, { format: "mamba-ts.s4-state.1" });
  }

  /** The inverse of `save`, on any backend. Throws CheckpointError if the bytes are no state of a model of this config. */
  static async restore(
    bytes: Uint8Array,
    { backend, config }: { readonly backend: Backend; readonly config: ResolvedS4Config },
  ): Promise<S4State> {
    const source = await openSafetensors(memoryReader(bytes, "state"));
    if (source.metadata["format"] !== "mamba-ts.s4-state.1" || source.names.length !== config.nLayer)
      throw new CheckpointError(`state: these bytes are no saved state of an S4 of ${config.nLayer} layers`);
    const layers: Tensor[] = [];
    for (let i = 0; i < config.nLayer; i++) {
      const { shape } = source.info(`layers.${i}`);
      const want = [source.info("layers.0").shape[0] ?? 0, config.dModel, config.dState];
      if (!sameShape(shape, want))
        throw new CheckpointError(`state: layer ${i} is [${shape.join(", ")}], this model's is [${want.join(", ")}]`);
      layers.push(keep(await readTensor(source, `layers.${i}`, backend)));
    }
    return new S4State(layers);
  }

  dispose(): void {
    for (const t of this.layers) t.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
