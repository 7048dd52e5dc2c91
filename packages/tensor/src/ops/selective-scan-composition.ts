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
import { accumulationDType, cast, exp } from "./unary.js";
import { reshape, slice, unsqueeze } from "./view.js";
import { where } from "./where.js";

type Name = "x" | "delta" | "A" | "B" | "C" | "D" | "z" | "deltaBias" | "initialState" | "marks";
type Sliced = "x" | "delta" | "B" | "C" | "marks";
type ChunkArgs = { readonly [K in Sliced | "A"]?: Tensor | undefined };

/**
 * One chunk, composed. The states of all its steps exist at once, [batch, chunk, dInner, dState], which is why the composition
 * is chunked: a whole sequence of them does not fit.
 */
function scanChunk(
  args: ChunkArgs,
  h0: Tensor,
  { batch, dInner, dState, groups }: SelectiveScanDescriptor,
): { y: Tensor; h: Tensor } {
  const { A, marks } = args as { A: Tensor; marks?: Tensor };
  const length = args.x!.shape[1]!;
  const type = A.dtype;
  const isPadding = marks === undefined ? undefined : unsqueeze(compare("lt", marks, 0), 2); // [batch, length, 1]
  // Padding is selected away before anything touches it: with delta = 0 the state is held, whatever the padded values were.
  const read = (t: Tensor): Tensor => cast(isPadding === undefined ? t : where(isPadding, 0, t), type);
  const [x, delta, B, C] = [read(args.x!), read(args.delta!), read(args.B!), read(args.C!)];
  const perGroup = dInner / groups;
  const byGroup = (t: Tensor): Tensor => reshape(t, [batch, length, groups, perGroup, 1]);
  const perState = (t: Tensor): Tensor => reshape(t, [batch, length, groups, 1, dState]);

  let dA = exp(mul(byGroup(delta), reshape(A, [groups, perGroup, dState]))); // [batch, length, groups, dInner / groups, dState]
  if (marks !== undefined) dA = where(reshape(compare("gt", marks, 0), [batch, length, 1, 1, 1]), 0, dA);
  const dBx = mul(byGroup(mul(delta, x)), perState(B));
  const fromStart = mul(slice(dA, 1, 0, 1), reshape(h0, [batch, 1, groups, perGroup, dState]));
  const h = linearScan(dA, add(dBx, pad(fromStart, 1, 0, length - 1)), 1);
  const y = reshape(sum(mul(h, perState(C)), 4), [batch, length, dInner]);
  return { y: cast(y, args.x!.dtype), h: reshape(slice(h, 1, length - 1), [batch, dInner, dState]) };
}

function chunksOf(descriptor: SelectiveScanDescriptor, A: Tensor): { start: number; end: number }[] {
  const { batch, length, dInner, dState } = descriptor;
  const bytes = A.dtype === "float64" ? 8 : 4;
  return chunkRanges(length, chunkLength(A.backend, batch * dInner * dState * bytes, length));
}

function cut(
  args: { readonly [K in Name]?: Tensor | undefined },
  { start, end }: { start: number; end: number },
): ChunkArgs {
  const part = (t: Tensor | undefined): Tensor | undefined => (t === undefined ? undefined : slice(t, 1, start, end));
  return {
    x: part(args.x),
    delta: part(args.delta),
    B: part(args.B),
    C: part(args.C),
    marks: part(args.marks),
    A: args.A,
  };
}

function startState(
  args: { readonly [K in Name]?: Tensor | undefined },
  { batch, dInner, dState }: SelectiveScanDescriptor,
): Tensor {
  return args.initialState ?? fill(args.A!.backend, [batch, dInner, dState], 0, args.A!.dtype);
}

/** The composition sees neither z, D, bias nor softplus: `selectiveScan` has peeled them off. */
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

    const sliced = ["x", "delta", "B", "C"] as const;
    const pieces: Record<(typeof sliced)[number], Tensor[]> = { x: [], delta: [], B: [], C: [] };
    const gA = new GradientSum();
    let gh: Tensor | undefined = gradOutputs.finalState;
    for (const range of [...ranges].reverse()) {
      const h0 = borders.pop()!;
      const grads = scope(() => {
        const part = cut(args, range);
        const inputs = [...sliced.map((name) => part[name]!), args.A!, h0];
        const gy = gradOutputs.y === undefined ? undefined : slice(gradOutputs.y, 1, range.start, range.end);
        const run = (): Tensor[] => {
          const { y, h } = scanChunk(part, h0, descriptor);
          return [y, h];
        };
        const grad = vjp(run, inputs, [gy, gh], [...sliced.map((name) => needs.has(name)), needs.has("A"), true]);
        gA.add(grad[4]);
        return { x: grad[0], delta: grad[1], B: grad[2], C: grad[3], h0: grad[5] };
      });
      for (const name of sliced) if (grads[name] !== undefined) pieces[name].unshift(grads[name]);
      gh = grads.h0;
      if (h0 !== args.initialState) h0.dispose();
    }
    const joined = (name: (typeof sliced)[number]): Tensor | undefined => {
      if (pieces[name].length === 0) return undefined;
      const whole = concat(pieces[name], 1);
      for (const part of pieces[name]) if (part !== whole) part.dispose();
      return whole;
    };
    return { x: joined("x"), delta: joined("delta"), B: joined("B"), C: joined("C"), A: gA.take(), initialState: gh };
  },
};
