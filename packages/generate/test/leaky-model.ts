/** A language model as small as one can be, whose state advances where it lies: h' = decay h + embedding, logits = head tanh(h). */
import type { Backend } from "@mamba-ts/backend";
import {
  add,
  concat,
  copy,
  expand,
  fromHost,
  gather,
  keep,
  kvAppend,
  linear,
  linearScan,
  mul,
  Rng,
  reshape,
  scope,
  slice,
  Tensor,
  type TensorOwner,
  tanh,
  tensorsSymbol,
  where,
  zeros,
} from "@mamba-ts/tensor";

const width = 6;

export class LeakyState implements TensorOwner, Disposable {
  /** @param h - [batch, 1, width] */
  constructor(readonly h: Tensor) {}
  [tensorsSymbol](): Tensor[] {
    return [this.h];
  }
  async save(): Promise<number[]> {
    return Array.from(await this.h.data());
  }
  [Symbol.dispose](): void {
    this.h.dispose();
  }
}

export class LeakyModel implements Disposable {
  readonly hasFixedStep: boolean;
  readonly embedding: Tensor;
  /** [width] */
  decay: Tensor;
  readonly head: Tensor;

  /** @param moves - states get new memory at every step */
  constructor(
    readonly backend: Backend,
    readonly vocabSize: number,
    readonly options: { readonly moves?: boolean; readonly hasFixedStep?: boolean } = {},
  ) {
    const rng = new Rng(7);
    const random = (shape: readonly number[], std = 1): Tensor =>
      fromHost(
        backend,
        rng.normal(shape.reduce((a, b) => a * b)).map((x) => std * x),
        shape,
        "float32",
      );
    this.embedding = random([vocabSize, width]);
    this.decay = this.decayOf(0.9);
    this.head = random([vocabSize, width], 2);
    this.hasFixedStep = options.hasFixedStep ?? true;
  }

  decayOf(factor: number): Tensor {
    return fromHost(
      this.backend,
      Float32Array.from({ length: width }, (_, i) => factor * (1 - i / 10)),
      [width],
      "float32",
    );
  }

  createState(batch: number): LeakyState {
    return new LeakyState(keep(zeros(this.backend, [batch, 1, width])));
  }

  forward(
    input: Tensor | readonly ArrayLike<number>[],
    {
      state,
      segments,
      logits,
    }: {
      readonly state: LeakyState;
      readonly into: LeakyState;
      readonly segments?: readonly ArrayLike<number>[] | undefined;
      readonly logits: "last" | "none";
    },
  ): { readonly logits?: Tensor } {
    return scope(() => {
      const { backend } = this;
      const rows = (ids: readonly ArrayLike<number>[]): Tensor =>
        fromHost(
          backend,
          Int32Array.from(ids.flatMap((row) => Array.from(row))),
          [ids.length, ids[0]!.length],
          "int32",
        );
      const tokens = input instanceof Tensor ? input : rows(input);
      const [batch, length] = tokens.shape as [number, number];
      let x = reshape(gather(this.embedding, reshape(tokens, [batch * length]), 0), [batch, length, width]);
      let decay = copy(expand(this.decay, [batch, length, width]));
      if (segments !== undefined) {
        const real = rows(segments.map((row) => Array.from(row, (id) => Number(id !== -1))));
        const mask = copy(expand(reshape(real, [batch, length, 1]), [batch, length, width]));
        [x, decay] = [where(mask, x, 0), where(mask, decay, 1)];
      }
      // The state goes in before the first token.
      const first = add(slice(x, 1, 0, 1), mul(slice(decay, 1, 0, 1), state.h));
      const h = linearScan(decay, length === 1 ? first : concat([first, slice(x, 1, 1, length)], 1), 1);
      const last = copy(slice(h, 1, length - 1, length)); // [batch, 1, width]
      if (this.options.moves === true) state.h.assign(last);
      else kvAppend(state.h, last, 0);
      return logits === "none" ? {} : { logits: linear(tanh(last), this.head) };
    });
  }

  [Symbol.dispose](): void {
    for (const t of [this.embedding, this.decay, this.head]) t.dispose();
  }
}
