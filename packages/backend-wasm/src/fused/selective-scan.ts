import type { Buf, FusedOps, SelectiveScanDescriptor } from "@mamba-ts/backend";
import { type Call, operation } from "../runtime/call.js";
import type { WasmMemory } from "../runtime/memory.js";

type Op = NonNullable<FusedOps["selectiveScan"]>;
type Args = Parameters<Op["forward"]>[0];
type Backward = NonNullable<Op["backward"]>;

/** As in kernels/selective-scan/scan.h. */
const [TILE, CHANNELS, SLOTS] = [32, 16, 8];
const [MOST_STATES, MOST_STATES_BACKWARD] = [256, 64];

/** The arguments as kernels/selective-scan reads them. */
function wordsOf(call: Call, args: Args, d: SelectiveScanDescriptor): number[] {
  const rows = [args.x, args.delta, args.B, args.C, args.z].flatMap((rows) =>
    rows === undefined ? [0, 0] : [call.at(rows), rows.rowStride],
  );
  const vectors = [args.A, args.D, args.deltaBias, args.initialState, args.marks].map((x) => call.optional(x));
  return [d.batch, d.length, d.dInner, d.dState, d.groups, d.softplus ? 1 : 0, ...rows, ...vectors];
}

/** Floats that the backward pass works with: each slot's carried states and sums, and its parts of the gradients of B and C. */
function backwardScratch(rows: number, { dInner, dState, groups }: SelectiveScanDescriptor): number {
  const perGroup = Math.ceil(SLOTS / groups);
  const quads = Math.ceil(Math.ceil(dInner / groups / 4) / perGroup);
  return groups * perGroup * (quads * 4 * (2 * dState + 2) + 2 * rows * dState);
}

function forward(memory: WasmMemory, args: Args, d: SelectiveScanDescriptor, save: boolean) {
  const { batch, length, dInner, dState } = d;
  return operation(memory, (call) => {
    const words = wordsOf(call, args, d);
    const y = call.alloc(batch * length * dInner, "float32");
    const finalState = call.alloc(batch * dInner * dState, "float32");
    const tiles = batch * Math.ceil(length / TILE);
    const kept = save ? call.alloc(tiles * Math.ceil(dInner / CHANNELS) * CHANNELS * dState, "float32") : undefined;
    call.kernels.selective_scan(y.at, finalState.at, kept?.at ?? 0, memory.words(words), 0);
    return { outputs: { y, finalState }, saved: kept === undefined ? [] : [kept] };
  });
}

function backward(
  memory: WasmMemory,
  args: Args,
  d: SelectiveScanDescriptor,
  saved: readonly Buf[],
  gradOutputs: Parameters<Backward>[4],
  needs: ReadonlySet<string>,
): ReturnType<Backward> {
  const rows = d.batch * d.length;
  const sizes = {
    x: rows * d.dInner,
    delta: rows * d.dInner,
    B: rows * d.groups * d.dState,
    C: rows * d.groups * d.dState,
    z: d.hasZ ? rows * d.dInner : 0,
    A: d.dInner * d.dState,
    D: d.hasD ? d.dInner : 0,
    deltaBias: d.hasDeltaBias ? d.dInner : 0,
    initialState: needs.has("initialState") ? d.batch * d.dInner * d.dState : 0,
  };
  return operation(memory, (call) => {
    const words = wordsOf(call, args, d);
    const grads: { [name: string]: Buf } = {};
    const at = Object.entries(sizes).map(([name, size]) => {
      if (size === 0 && name !== "x" && name !== "delta" && name !== "B" && name !== "C") return 0;
      if (!needs.has(name)) return call.scratch(size);
      const grad = call.alloc(size, "float32");
      grads[name] = grad;
      return grad.at;
    });
    const scratch = call.scratch(backwardScratch(rows, d));
    const given = [memory.own(saved[0]!).at, call.optional(gradOutputs.y), call.optional(gradOutputs.finalState)];
    call.kernels.selective_scan_backward(memory.words([...words, ...given, ...at, scratch]));
    return grads;
  });
}

/** The selective scan, in float32; see kernels/selective-scan. */
export function selectiveScan(memory: WasmMemory): Op {
  return {
    supports: ({ dtype, dState, dInner, groups }) =>
      dtype === "float32" && dState <= MOST_STATES && (groups === 1 || (dInner / groups) % CHANNELS === 0)
        ? { strided: ["x", "delta", "B", "C", "z"] }
        : false,
    supportsBackward: ({ dState }) => dState <= MOST_STATES_BACKWARD,
    forward: (args, descriptor, { save }) => forward(memory, args, descriptor, save),
    backward: (args, descriptor, _, saved, gradOutputs, needs) =>
      backward(memory, args, descriptor, saved, gradOutputs, needs),
  };
}
