import { InvalidArgumentError } from "@mamba-ts/backend";
import type { Tensor } from "./tensor.js";

/** Objects that own tensors (states, modules, optimizers) list them under this method, and so survive a scope that returns them. */
export const tensorsSymbol: unique symbol = Symbol.for("mamba-ts.tensors") as never;
export interface TensorOwner {
  [tensorsSymbol](): Iterable<Tensor>;
}

class Scope {
  readonly tensors: Set<Tensor> = new Set();
  constructor(readonly parent: Scope | undefined) {}
}

let innermost: Scope | undefined;

/** Gives a new tensor to the innermost scope, if one is open. */
export function adopt(tensor: Tensor): void {
  if (innermost === undefined) return;
  innermost.tensors.add(tensor);
  tensor.scope = innermost;
}

/** Takes a tensor out of its scope. */
export function disown(tensor: Tensor): void {
  tensor.scope?.tensors.delete(tensor);
  tensor.scope = undefined;
}

/** Takes `tensor` out of every scope: from now on its owner is the caller, who disposes it. For parameters and other long-lived state. */
export function keep<T extends Tensor>(tensor: T): T {
  disown(tensor);
  return tensor;
}

type Sync<T> = T extends PromiseLike<unknown> ? never : T;

/**
 * Runs `fn` and frees every tensor it made, intermediate results included, except those reachable from its result: through
 * plain objects, arrays, maps, sets, and objects with `[tensorsSymbol]`. What escapes belongs to the enclosing scope, or to the
 * caller. If `fn` throws, everything is freed. `fn` must be synchronous: a promise throws InvalidArgumentError.
 */
export function scope<T>(fn: () => Sync<T> & T): T {
  const own = new Scope(innermost);
  innermost = own;
  let kept: ReadonlySet<Tensor> = new Set();
  try {
    const result = fn();
    if (typeof (result as { then?: unknown } | null | undefined)?.then === "function")
      throw new InvalidArgumentError("scope: the function returned a promise", {
        hint: "await outside: const y = scope(() => f(x)); await y.data()",
      });
    kept = tensorsIn(result);
    return result;
  } finally {
    innermost = own.parent;
    for (const tensor of own.tensors) {
      if (!kept.has(tensor)) tensor.releaseOwner();
      else {
        own.parent?.tensors.add(tensor);
        tensor.scope = own.parent;
      }
    }
  }
}

/**
 * `f` in a scope of its own: what it makes on the way never outlives the call, even where the caller has no scope open. Calls are marked
 * `@__PURE__`, so that an op that a program does not use leaves its bundle.
 */
export function scoped<A extends readonly unknown[], R>(f: (...args: A) => R): (...args: A) => R {
  return (...args) => scope(() => f(...args) as never);
}

/** All tensors reachable from a value, see `scope`. */
export function tensorsIn(value: unknown): Set<Tensor> {
  const found = new Set<Tensor>();
  const seen = new Set<object>();
  const visit = (v: unknown): void => {
    if (typeof v !== "object" || v === null || seen.has(v)) return;
    seen.add(v);
    if (isTensor(v)) found.add(v);
    else if (tensorsSymbol in v) for (const t of (v as TensorOwner)[tensorsSymbol]()) found.add(t);
    else if (Array.isArray(v) || v instanceof Set) for (const item of v) visit(item);
    else if (v instanceof Map) for (const item of v.values()) visit(item);
    else if (isPlain(v)) for (const item of Object.values(v)) visit(item);
  };
  visit(value);
  return found;
}

function isTensor(v: object): v is Tensor {
  return "holds" in v && "strides" in v && "assertLive" in v;
}

function isPlain(v: object): boolean {
  const proto: unknown = Object.getPrototypeOf(v);
  return proto === Object.prototype || proto === null;
}
