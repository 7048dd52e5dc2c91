import { type Backend, DisposedError, type DType, dtypeLayout, type Shape, ShapeError } from "@mamba-ts/backend";
import { cast, fromHost, keep, type Rng, sameShape, sizeOf, type Tensor } from "@mamba-ts/tensor";
import type { Initialiser } from "./initialisers.js";

export interface ParameterOptions {
  readonly init: Initialiser;
  /** Whether AdamW's weight decay applies; off for norms, biases, A_log and D. */
  readonly decay?: boolean;
  /** Stays in float32 whatever dtype the model's weights have: A_log, D, the bias of delta, norms. */
  readonly keepFloat32?: boolean;
  /** May be stored in blocks (`q8_0`): a matrix that only `linear` and `gather` read. */
  readonly inBlocks?: boolean;
}

/** A tensor that is learnt. It has a shape and a rule for its first values from the start, and memory once it is materialised. */
export class Parameter {
  readonly decay: boolean;
  readonly keepFloat32: boolean;
  readonly inBlocks: boolean;
  readonly init: Initialiser;
  #value: Tensor | undefined;

  constructor(
    readonly shape: Shape,
    { init, decay = true, keepFloat32 = false, inBlocks = false }: ParameterOptions,
  ) {
    this.init = init;
    this.decay = decay;
    this.keepFloat32 = keepFloat32;
    this.inBlocks = inBlocks;
  }

  get size(): number {
    return sizeOf(this.shape);
  }

  get isMaterialised(): boolean {
    return this.#value !== undefined;
  }

  /** The tensor; throws DisposedError before it has been given memory or after it has been freed. */
  get value(): Tensor {
    if (this.#value === undefined)
      throw new DisposedError(`parameter [${this.shape.join(", ")}] has no memory`, {
        hint: "initialise the model, or load a checkpoint into it",
      });
    return this.#value;
  }

  /** Takes over a tensor of this parameter's shape; the one before it is freed. */
  set value(tensor: Tensor) {
    if (!sameShape(tensor.shape, this.shape))
      throw new ShapeError(`parameter: [${tensor.shape.join(", ")}] given for [${this.shape.join(", ")}]`);
    if (tensor === this.#value) return;
    this.#value?.dispose();
    this.#value = keep(tensor);
  }

  /** The dtype this parameter has in a model whose weights are `dtype`. Rows that are no whole number of blocks stay in float32. */
  dtypeIn(dtype: DType): DType {
    if (this.keepFloat32 && dtype !== "float64") return "float32";
    const { elements } = dtypeLayout[dtype];
    const fits = elements === 1 || (this.inBlocks && this.shape.at(-1)! % elements === 0);
    return fits ? dtype : "float32";
  }

  /** Draws first values. */
  initialise(backend: Backend, rng: Rng, dtype: DType): void {
    const target = this.dtypeIn(dtype);
    const host = fromHost(
      backend,
      this.init(rng, this.shape),
      this.shape,
      target === "float64" ? "float64" : "float32",
    );
    const converted = cast(host, target);
    if (converted !== host) host.dispose();
    this.value = converted;
  }

  dispose(): void {
    this.#value?.dispose();
    this.#value = undefined;
  }
}
