/**
 * Reverse-mode differentiation: while a tape is open, every operation on a tensor it tracks records one node, whose rule turns the
 * gradients of the node's outputs into those of its inputs. Rules run with recording off, so gradients are first order.
 */
import { ShapeError } from "@mamba-ts/backend";
import { fill } from "./create.js";
import { add } from "./ops/binary.js";
import { type Rng, watchDraws } from "./random.js";
import {
  currentRecorder,
  type GradientRule,
  type Recorder,
  record,
  withoutRecording,
  withRecorder,
} from "./recorder.js";
import { scope, tensorsIn } from "./scope.js";
import { sameShape, show } from "./shape.js";
import { hold, release, type Tensor } from "./tensor.js";

interface TapeNode {
  readonly inputs: readonly (number | undefined)[];
  readonly outputs: readonly number[];
  readonly saved: readonly Tensor[];
  readonly rule: GradientRule;
  /** What has to be done before the nodes before this one, whatever its gradients are. */
  readonly prepare?: () => void;
}

class Tape implements Recorder {
  readonly nodes: TapeNode[] = [];
  readonly #tracked: Set<number>;
  constructor(wrt: readonly Tensor[]) {
    this.#tracked = new Set(wrt.map((t) => t.id));
  }

  tracks(tensor: Tensor): boolean {
    return this.#tracked.has(tensor.id);
  }

  touch(): void {}

  add(
    inputs: readonly (Tensor | undefined)[],
    outputs: readonly Tensor[],
    saved: readonly Tensor[],
    rule: GradientRule,
  ): void {
    for (const t of saved) hold(t);
    for (const t of outputs) this.#tracked.add(t.id);
    this.nodes.push({
      inputs: inputs.map((t) => (t !== undefined && this.tracks(t) ? t.id : undefined)),
      outputs: outputs.map((t) => t.id),
      saved,
      rule,
    });
  }

  forget(tensors: readonly Tensor[], reads: readonly Tensor[], again: () => readonly Tensor[]): void {
    const saved = [...tensors, ...reads];
    for (const t of saved) hold(t);
    for (const t of tensors) t.vacate();
    const prepare = (): void => {
      scope(() => {
        const fresh = again();
        for (const [i, t] of tensors.entries()) t.refill(fresh[i]!);
      });
    };
    this.nodes.push({ inputs: [], outputs: [], saved, rule: () => [], prepare });
  }

  /** Walks the nodes backwards from the seeded gradients; `onReady` sees the gradient of each of `wrt` as soon as it is complete. */
  backward(
    seeds: readonly (readonly [Tensor, Tensor])[],
    wrt: readonly Tensor[],
    onReady: (index: number, g: Tensor | undefined) => void,
  ): void {
    const gradients = new Map<number, Tensor>();
    const accumulate = (id: number, g: Tensor): void => {
      const before = gradients.get(id);
      gradients.set(id, hold(before === undefined ? g : add(before, g)));
      if (before !== undefined) release(before);
    };
    const wrtIndices = new Map<number, number[]>();
    for (const [i, t] of wrt.entries()) wrtIndices.set(t.id, [...(wrtIndices.get(t.id) ?? []), i]);
    const firstUse = new Map<number, number>();
    this.nodes.forEach((node, i) => {
      for (const id of node.inputs) if (id !== undefined && !firstUse.has(id)) firstUse.set(id, i);
    });
    const ready = (id: number): void => {
      for (const index of wrtIndices.get(id) ?? []) onReady(index, gradients.get(id));
      wrtIndices.delete(id);
    };
    try {
      for (const [output, seed] of seeds) scope(() => accumulate(output.id, seed));
      for (let i = this.nodes.length - 1; i >= 0; i--) {
        const node = this.nodes.pop()!;
        try {
          node.prepare?.();
          const gradOutputs = node.outputs.map((id) => gradients.get(id));
          if (gradOutputs.some((g) => g !== undefined))
            scope(() => {
              const thunks = node.rule(
                gradOutputs,
                node.inputs.map((id) => id !== undefined),
              );
              node.inputs.forEach((id, k) => {
                const g = id === undefined ? undefined : thunks[k]?.();
                if (g !== undefined) accumulate(id!, g);
              });
            });
          for (const id of node.outputs) {
            const g = gradients.get(id);
            gradients.delete(id);
            if (g !== undefined) release(g);
          }
          for (const id of new Set(node.inputs))
            if (id !== undefined && firstUse.get(id) === i && wrtIndices.has(id)) ready(id);
        } finally {
          for (const t of node.saved) release(t);
        }
      }
      for (const id of [...wrtIndices.keys()]) ready(id);
    } finally {
      for (const g of gradients.values()) release(g);
    }
  }

  discard(): void {
    for (const node of this.nodes.splice(0)) for (const t of node.saved) release(t);
  }
}

/** What `body` makes of a tape that is gone afterwards, whatever happens, as is all that is not returned. */
function withTape<R>(wrt: readonly Tensor[], body: (tape: Tape) => R): R {
  return withoutRecording(() =>
    scope(() => {
      const tape = new Tape(wrt);
      try {
        return body(tape) as never;
      } finally {
        tape.discard();
      }
    }),
  );
}

export interface ValueAndGradOptions {
  /** Sees each gradient as soon as it is complete (last layers first); the tensor is valid during the call only. */
  readonly onGradient?: (index: number, gradient: Tensor) => void;
}

/**
 * Runs `fn`, which returns `{ loss, ...aux }` with a scalar loss, and differentiates the loss.
 * @param wrt - tensors to differentiate with respect to
 * @returns what `fn` returned, detached, and one gradient per tensor of `wrt` (zeros where the loss does not depend on it)
 */
export function valueAndGrad<T extends { readonly loss: Tensor }>(
  fn: () => T,
  wrt: readonly Tensor[],
  { onGradient }: ValueAndGradOptions = {},
): { readonly value: T; readonly gradients: readonly Tensor[] } {
  // One scope around both passes: where the backward pass throws, what `fn` returned is freed, too.
  return withTape(wrt, (tape) => {
    const value: T = scope(() => withRecorder(tape, fn) as never);
    const { loss } = value;
    if (loss.size !== 1) throw new ShapeError(`valueAndGrad: the loss is ${show(loss.shape)}, not a scalar`);
    const gradients = new Array<Tensor>(wrt.length);
    const seed = fill(loss.backend, loss.shape, 1, loss.dtype);
    tape.backward([[loss, seed]], wrt, (i, g) => {
      const t = wrt[i]!;
      gradients[i] = g === undefined ? fill(t.backend, t.shape, 0, t.dtype) : g.view(g.shape, g.strides);
      onGradient?.(i, gradients[i]);
    });
    return { value, gradients };
  });
}

/**
 * Vector-Jacobian product: runs `fn` again on the same tensors and pulls `gradOutputs` back to `inputs`.
 * The gradient of every composition is this.
 * @returns one gradient per input; undefined where `needs` is false or no output depends on it
 */
export function vjp(
  fn: () => readonly (Tensor | undefined)[],
  inputs: readonly (Tensor | undefined)[],
  gradOutputs: readonly (Tensor | undefined)[],
  needs: readonly boolean[] = inputs.map(() => true),
): (Tensor | undefined)[] {
  const wanted = inputs.filter((t, i): t is Tensor => t !== undefined && needs[i] === true);
  return withTape(wanted, (tape) => {
    const found = new Map<number, Tensor>();
    const outputs = withRecorder(tape, fn);
    const seeds = outputs.flatMap((output, i) => {
      const g = gradOutputs[i];
      if (output === undefined || g === undefined || !tape.tracks(output)) return [];
      if (!sameShape(output.shape, g.shape))
        throw new ShapeError(`vjp: output ${i} is ${show(output.shape)}, its gradient ${show(g.shape)}`);
      return [[output, g] as const];
    });
    tape.backward(seeds, wanted, (i, g) => g !== undefined && found.set(wanted[i]!.id, g.view(g.shape, g.strides)));
    return inputs.map((t, i) => (t !== undefined && needs[i] === true ? found.get(t.id) : undefined));
  });
}

/** Notes what a function reads and which of its tensors depend on the outer tape, and saves nothing. */
class Observer implements Recorder {
  readonly reads = new Map<number, Tensor>();
  readonly #local = new Set<number>();
  constructor(readonly outer: Recorder) {}

  tracks(tensor: Tensor): boolean {
    return this.#local.has(tensor.id) || this.outer.tracks(tensor);
  }

  touch(tensor: Tensor): void {
    if (!this.#local.has(tensor.id) && !this.reads.has(tensor.id)) this.reads.set(tensor.id, hold(tensor));
    this.outer.touch(tensor);
  }

  add(inputs: readonly (Tensor | undefined)[], outputs: readonly Tensor[]): void {
    for (const t of inputs) if (t !== undefined) this.touch(t);
    for (const t of outputs) this.#local.add(t.id);
  }
}

/**
 * Runs `fn` without keeping its intermediate results; the gradient runs it again (activation recomputation, arXiv:1604.06174).
 * Every tensor that `fn` reads counts as an input, parameters included; random counters are set back for the second run.
 * `fn` must be a function of what it reads: no readback, no writes in place.
 */
export function checkpoint<T>(fn: () => T): T {
  const outer = currentRecorder();
  if (outer === undefined) return fn();
  const observer = new Observer(outer);
  const draws = new Map<Rng, number>();
  try {
    const result = scope(() => withRecorder(observer, () => watchDraws(draws, fn)) as never) as T;
    const outputs = [...tensorsIn(result)].filter((t) => observer.tracks(t) && !observer.reads.has(t.id));
    const reads = [...observer.reads.values()];
    const order = orderIn(result, outputs);
    record(reads, outputs, reads, (gradOutputs, needs) => {
      const replay = (): Tensor[] => {
        const now = new Map([...draws.keys()].map((rng) => [rng, rng.counter]));
        for (const [rng, counter] of draws) rng.counter = counter;
        try {
          const all = [...tensorsIn(fn())];
          return order.map((i) => all[i]!);
        } finally {
          for (const [rng, counter] of now) rng.counter = counter;
        }
      };
      let gradients: (Tensor | undefined)[] | undefined;
      const all = (): (Tensor | undefined)[] => (gradients ??= vjp(replay, reads, gradOutputs, needs));
      return reads.map((_, i) => () => all()[i]);
    });
    return result;
  } finally {
    for (const t of observer.reads.values()) release(t);
  }
}

/** Positions of `outputs` among the tensors of a result: the replay's result lists them in the same order. */
function orderIn(result: unknown, outputs: readonly Tensor[]): number[] {
  const all = [...tensorsIn(result)];
  return outputs.map((t) => all.indexOf(t));
}
