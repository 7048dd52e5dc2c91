import { type Backend, type DType, DTypeError } from "@mamba-ts/backend";
import { type Rng, type Tensor, type TensorOwner, tensorsSymbol } from "@mamba-ts/tensor";
import { Parameter } from "./parameter.js";

/**
 * What a model computes again for the gradient instead of keeping it. true: all inside a block, which takes the least memory and a third more
 * time; "cheap": the convolution, the projections to dt, B and C, and delta: a fifth of the memory for a few percent of the time.
 */
export type Recompute = boolean | "cheap";

/**
 * A tree of parameters. Properties that are parameters, modules, or arrays of modules belong to it; their names in a checkpoint are the
 * properties' in snake case (`inProj` is `in_proj`, `A_log` stays), joined by dots.
 */
export abstract class Module implements TensorOwner, Disposable {
  /** All parameters with their names, in the order of definition. A parameter shared by two modules comes once, under its first name. */
  *namedParameters(prefix = "", seen: Set<Parameter> = new Set()): Generator<readonly [string, Parameter]> {
    for (const [key, child] of Object.entries(this) as [string, unknown][]) {
      if (child instanceof Parameter) {
        if (!seen.has(child)) {
          seen.add(child);
          yield [`${prefix}${snakeCase(key)}`, child];
        }
      } else if (child instanceof Module) yield* child.namedParameters(prefix + this.prefixOf(key), seen);
      else if (Array.isArray(child))
        for (const [i, item] of child.entries())
          if (item instanceof Module) yield* item.namedParameters(`${prefix}${this.prefixOf(key)}${i}.`, seen);
    }
  }

  /** What the names of a child's parameters begin with; override where checkpoints have a flatter tree than the code. */
  protected prefixOf(key: string): string {
    return `${snakeCase(key)}.`;
  }

  /** All parameters, those of submodules included, each once. */
  parameters(): Parameter[] {
    return [...this.namedParameters()].map(([, parameter]) => parameter);
  }

  /** Number of parameters, from the shapes alone. */
  get parameterCount(): number {
    return this.parameters().reduce((n, p) => n + p.size, 0);
  }

  /** Draws first values for every parameter, in order, from one generator: the same seed gives the same model everywhere. */
  initialise(backend: Backend, rng: Rng, dtype: DType = "float32"): this {
    if (dtype === "int32") throw new DTypeError("initialise: weights cannot be int32");
    for (const parameter of this.parameters()) parameter.initialise(backend, rng, dtype);
    return this;
  }

  [tensorsSymbol](): Tensor[] {
    return this.parameters().flatMap((p) => (p.isMaterialised ? [p.value] : []));
  }

  dispose(): void {
    for (const parameter of this.parameters()) parameter.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function snakeCase(name: string): string {
  return name.replace(/([a-z0-9])([A-Z])/g, (_, before: string, letter: string) => `${before}_${letter.toLowerCase()}`);
}
