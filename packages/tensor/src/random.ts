import { type Backend, InvalidArgumentError, type Shape } from "@mamba-ts/backend";
import { fromHost } from "./create.js";
import { randomWords } from "./philox.js";
import { sizeOf } from "./shape.js";
import type { Tensor } from "./tensor.js";

let watched: Map<Rng, number> | undefined;

/** Notes, for every generator drawn from while `fn` runs, the counter it had before: `checkpoint` sets it back. */
export function watchDraws<T>(draws: Map<Rng, number>, fn: () => T): T {
  const outer = watched;
  watched = draws;
  try {
    return fn();
  } finally {
    watched = outer;
    if (outer !== undefined) for (const [rng, counter] of draws) if (!outer.has(rng)) outer.set(rng, counter);
  }
}

/** A stream of random numbers: a seed and a counter of draws. The same pair gives the same numbers on every machine. */
export class Rng {
  /** @param seed - integer in [0, 2^53)  @param counter - draws made so far; save it to resume exactly */
  constructor(
    readonly seed: number,
    public counter = 0,
  ) {
    for (const [name, value] of Object.entries({ seed, counter }))
      if (!Number.isSafeInteger(value) || value < 0)
        throw new InvalidArgumentError(`Rng: ${name} is ${value}, not an integer in [0, 2^53)`);
  }

  #words(count: number): Uint32Array {
    if (watched !== undefined && !watched.has(this)) watched.set(this, this.counter);
    return randomWords(count, this.seed, this.counter++);
  }

  /** `count` numbers uniform in (0, 1), of 32 random bits each. */
  uniform(count: number): Float64Array {
    return Float64Array.from(this.#words(count), (w) => (w + 0.5) / 4294967296);
  }

  /** `count` numbers from the standard normal distribution (Box and Muller). */
  normal(count: number): Float64Array {
    const u = this.uniform(2 * Math.ceil(count / 2));
    const out = new Float64Array(count);
    for (let i = 0; i < count; i += 2) {
      const radius = Math.sqrt(-2 * Math.log(u[i]!));
      const angle = 2 * Math.PI * u[i + 1]!;
      out[i] = radius * Math.cos(angle);
      if (i + 1 < count) out[i + 1] = radius * Math.sin(angle);
    }
    return out;
  }

  /** `count` integers uniform in [0, bound), bound at most 2^32. */
  integers(count: number, bound: number): Float64Array {
    return Float64Array.from(this.#words(count), (w) => Math.floor((w * bound) / 4294967296));
  }
}

export interface RandomOptions {
  readonly dtype?: "float32" | "float64";
}

/** A tensor uniform in (low, high). */
export function randomUniform(
  backend: Backend,
  shape: Shape,
  rng: Rng,
  { low = 0, high = 1, dtype = "float32" }: RandomOptions & { readonly low?: number; readonly high?: number } = {},
): Tensor {
  return fromHost(
    backend,
    rng.uniform(sizeOf(shape)).map((u) => low + (high - low) * u),
    shape,
    dtype,
  );
}

/** A normally distributed tensor. */
export function randomNormal(
  backend: Backend,
  shape: Shape,
  rng: Rng,
  { mean = 0, std = 1, dtype = "float32" }: RandomOptions & { readonly mean?: number; readonly std?: number } = {},
): Tensor {
  return fromHost(
    backend,
    rng.normal(sizeOf(shape)).map((z) => mean + std * z),
    shape,
    dtype,
  );
}
