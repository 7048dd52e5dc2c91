import type { SelectiveScanDescriptor } from "@mamba-ts/backend";
import { chunkLength, chunkRanges, GradientSum } from "../chunks.js";
import { fill } from "../create.js";
import type { FusedDefinition } from "../dispatch.js";
import { denseCopy } from "../run.js";
import { scope } from "../scope.js";
import { vjp } from "../tape.js";
import type { Tensor } from "../tensor.js";
import { add, compare, mul } from "./binary.js";
import { concat, pad } from "./join.js";
import { linearScan } from "./linear-scan.js";
import { sum } from "./reduce.js";
import { accumulationDType, cast, exp, silu, softplus } from "./unary.js";
import { reshape, slice, unsqueeze } from "./view.js";
import { where } from "./where.js";

type Name = "x" | "delta" | "A" | "B" | "C" | "D" | "z" | "deltaBias" | "initialState" | "marks";
/** Arguments with a length, of which a chunk reads a part, and those that every chunk reads whole. */
const sliced = ["x", "delta", "B", "C", "z"] as const;
const shared = ["A", "D", "deltaBias"] as const;
type Args = { readonly [K in Name]?: Tensor | undefined };

/**
 * One chunk, composed. The states of all its steps exist at once, [batch, chunk, dInner, dState], which is why the composition
 * is chunked: a whole sequence of them does not fit.
 */
function scanChunk(
  args: Args,
  h0: Tensor,
  { batch, dInner, dState, groups, softplus: isSoftplus }: SelectiveScanDescriptor,
): { y: Tensor; h: Tensor } {
  const { A, D, deltaBias, marks } = args as Args & { A: Tensor };
  const length = args.x!.shape[1]!;
  const type = A.dtype;
  const isPadding = marks === undefined ? undefined : unsqueeze(compare("lt", marks, 0), 2); // [batch, length, 1]
  // Padding is selected away before anything touches it: with delta = 0 the state is held, whatever the padded values were.
  const clear = (t: Tensor): Tensor => (isPadding === undefined ? t : where(isPadding, 0, t));
  const read = (t: Tensor): Tensor => cast(clear(t), type);
  const [x, B, C] = [read(args.x!), read(args.B!), read(args.C!)];
  let delta = read(args.delta!);
  if (deltaBias !== undefined) delta = add(delta, deltaBias);
  if (isSoftplus) delta = softplus(delta);
  if (deltaBias !== undefined || isSoftplus) delta = clear(delta);
  const perGroup = dInner / groups;
  const byGroup = (t: Tensor): Tensor => reshape(t, [batch, length, groups, perGroup, 1]);
  const perState = (t: Tensor): Tensor => reshape(t, [batch, length, groups, 1, dState]);

  let dA = exp(mul(byGroup(delta), reshape(A, [groups, perGroup, dState]))); // [batch, length, groups, dInner / groups, dState]
  if (marks !== undefined) dA = where(reshape(compare("gt", marks, 0), [batch, length, 1, 1, 1]), 0, dA);
  const dBx = mul(byGroup(mul(delta, x)), perState(B));
  const fromStart = mul(slice(dA, 1, 0, 1), reshape(h0, [batch, 1, groups, perGroup, dState]));
  const h = linearScan(dA, add(dBx, pad(fromStart, 1, 0, length - 1)), 1);
  let y = reshape(sum(mul(h, perState(C)), 4), [batch, length, dInner]);
  if (D !== undefined) y = add(y, mul(D, x));
  if (args.z !== undefined) y = mul(y, silu(read(args.z)));
  return { y: cast(y, args.x!.dtype), h: reshape(slice(h, 1, length - 1), [batch, dInner, dState]) };
}

function chunksOf(descriptor: SelectiveScanDescriptor, A: Tensor): { start: number; end: number }[] {
  const { batch, length, dInner, dState } = descriptor;
  const bytes = A.dtype === "float64" ? 8 : 4;
  return chunkRanges(length, chunkLength(A.backend, batch * dInner * dState * bytes, length));
}

/** The arguments of one chunk. */
function cut(args: Args, { start, end }: { start: number; end: number }): Args {
  const parts = [...sliced, "marks" as const].map((name) => {
    const whole = args[name];
    return [name, whole === undefined ? undefined : slice(whole, 1, start, end)];
  });
  return { ...args, ...Object.fromEntries(parts) };
}

function startState(args: Args, { batch, dInner, dState }: SelectiveScanDescriptor): Tensor {
  return args.initialState ?? fill(args.A!.backend, [batch, dInner, dState], 0, args.A!.dtype);
}

/** With all its options inside the chunks: around them, each would keep arrays of the full length for its gradient. */
export const selectiveScanDefinition: FusedDefinition<SelectiveScanDescriptor, Name, "y" | "finalState"> = {
  name: "selectiveScan",

  outputs: ({ batch, length, dInner, dState, dtype }) => ({
    y: { shape: [batch, length, dInner], dtype },
    finalState: { shape: [batch, dInner, dState], dtype: accumulationDType(dtype) },
  }),

  compose(args, descriptor) {
    const ys: Tensor[] = [];
    let h = startState(args, descriptor);
    for (const range of chunksOf(descriptor, args.A!)) {
      const step = scope(() => {
        const next = scanChunk(cut(args, range), h, descriptor);
        return { y: next.y, h: denseCopy(next.h) };
      });
      if (h !== args.initialState) h.dispose();
      ys.push(step.y);
      h = step.h;
    }
    const y = ys.length === 0 ? fill(args.x!.backend, args.x!.shape, 0, args.x!.dtype) : concat(ys, 1);
    for (const part of ys) if (part !== y) part.dispose();
    return { y, finalState: h === args.initialState ? denseCopy(h) : h };
  },

  /** Keeps the states at the chunks' borders, then goes backwards, running each chunk again: memory O(length / chunk), time twice. */
  composeBackward(args, descriptor, gradOutputs, needs) {
    const ranges = chunksOf(descriptor, args.A!);
    const borders: Tensor[] = [startState(args, descriptor)];
    for (const range of ranges.slice(0, -1))
      borders.push(scope(() => denseCopy(scanChunk(cut(args, range), borders.at(-1)!, descriptor).h)));

    const pieces = new Map<Name, Tensor[]>(sliced.map((name) => [name, []]));
    const sums = new Map<Name, GradientSum>(shared.map((name) => [name, new GradientSum()]));
    const given = [...sliced, ...shared].filter((name) => args[name] !== undefined);
    let gh: Tensor | undefined = gradOutputs.finalState;
    for (const range of [...ranges].reverse()) {
      const h0 = borders.pop()!;
      const grads = scope(() => {
        const part = cut(args, range);
        const gy = gradOutputs.y === undefined ? undefined : slice(gradOutputs.y, 1, range.start, range.end);
        const run = (): Tensor[] => {
          const { y, h } = scanChunk(part, h0, descriptor);
          return [y, h];
        };
        const inputs = [...given.map((name) => part[name]!), h0];
        const found = vjp(run, inputs, [gy, gh], [...given.map((name) => needs.has(name)), true]);
        for (const [i, name] of given.entries()) sums.get(name)?.add(found[i]);
        return { pieces: given.map((name, i) => (sums.has(name) ? undefined : found[i])), h0: found.at(-1) };
      });
      for (const [i, name] of given.entries())
        if (grads.pieces[i] !== undefined) pieces.get(name)!.unshift(grads.pieces[i]);
      gh = grads.h0;
      if (h0 !== args.initialState) h0.dispose();
    }
    const joined = (parts: Tensor[]): Tensor | undefined => {
      if (parts.length === 0) return undefined;
      const whole = concat(parts, 1);
      for (const part of parts) if (part !== whole) part.dispose();
      return whole;
    };
    return {
      ...Object.fromEntries(sliced.map((name) => [name, joined(pieces.get(name)!)])),
      ...Object.fromEntries(shared.map((name) => [name, sums.get(name)!.take()])),
      initialState: gh,
    };
  },
};
