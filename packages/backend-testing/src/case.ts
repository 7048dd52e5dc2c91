import type { Backend, Shape } from "@mamba-ts/backend";
import { Rng, sizeOf, type Tensor } from "@mamba-ts/tensor";

/** Numbers as the oracle sees them: always float64 (or int32), row-major. */
export type Numbers = Float64Array | Int32Array;

export interface HostTensor {
  readonly data: Numbers;
  readonly shape: Shape;
  /** Whether the gradient with respect to it is checked; true for floats unless said otherwise. */
  readonly grad?: boolean;
}
export type HostTensors = { readonly [name: string]: HostTensor };
export type Tensors = { readonly [name: string]: Tensor };
export type OracleResult = { readonly [name: string]: Numbers };

/** One thing a backend must get right: inputs, how core computes it there, and what comes out by an independent definition. */
export interface OpCase {
  readonly op: string;
  readonly name: string;
  inputs(random: RandomInputs): HostTensors;
  run(tensors: Tensors, backend: Backend): Tensors;
  /** The definition, in plain loops over float64: no tensor, no backend. */
  oracle(inputs: { readonly [name: string]: Numbers }): OracleResult;
  /** No gradient is checked: integers come out, or the operation has none. */
  readonly noGradient?: boolean;
  /** dtypes the case makes sense in; float32 and float64 by default. */
  readonly dtypes?: readonly ("float32" | "float64")[];
}

/** Seeded inputs for cases. */
export class RandomInputs {
  readonly rng: Rng;
  constructor(seed: number) {
    this.rng = new Rng(seed);
  }

  /** Normal with mean 0. */
  normal(shape: Shape, std = 1): HostTensor {
    return { shape, data: this.rng.normal(sizeOf(shape)).map((x) => std * x) };
  }

  /** Uniform in [low, high). */
  uniform(shape: Shape, low: number, high: number): HostTensor {
    return { shape, data: this.rng.uniform(sizeOf(shape)).map((u) => low + (high - low) * u) };
  }

  /** (k + offset) / 8 for random integers k: exact in float32, and away from kinks that central differences must not step over. */
  lattice(shape: Shape, low: number, high: number, offset: number): HostTensor {
    return { shape, data: this.rng.integers(sizeOf(shape), 8 * (high - low)).map((k) => low + (k + offset) / 8) };
  }

  /** int32 in [low, high). */
  integers(shape: Shape, low: number, high: number): HostTensor {
    return { shape, data: Int32Array.from(this.rng.integers(sizeOf(shape), high - low), (i) => i + low) };
  }
}

/** All indices of a shape, in row-major order. */
export function* indices(shape: Shape): Generator<number[]> {
  const index = shape.map(() => 0);
  for (let i = 0; i < sizeOf(shape); i++) {
    yield index.slice();
    for (let d = shape.length - 1; d >= 0; d--) {
      if (++index[d]! < shape[d]!) break;
      index[d] = 0;
    }
  }
}

/** Position of an index in a dense tensor; axes of size 1 broadcast, missing leading axes too. */
export function at(shape: Shape, index: readonly number[]): number {
  const skip = index.length - shape.length;
  let position = 0;
  shape.forEach((n, d) => {
    position = position * n + (n === 1 ? 0 : index[d + skip]!);
  });
  return position;
}

/** A dense tensor of `shape` from a function of the index. */
export function build(shape: Shape, f: (index: number[]) => number): Float64Array {
  const out = new Float64Array(sizeOf(shape));
  let i = 0;
  for (const index of indices(shape)) out[i++] = f(index);
  return out;
}
