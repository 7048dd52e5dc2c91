import type { Buf, FusedOps, SelectiveScanDescriptor } from "@mamba-ts/backend";
import { place } from "../primitives/place.js";
import type { WebGpuBuf, WebGpuMemory } from "../storage.js";
import { gridOf, optional, rowsOf } from "./operands.js";
import { scanBackward, scanSegments } from "./selective-scan-backward.js";
import {
  CHUNK,
  flagsOf,
  packSmall,
  type ScanArgs,
  type Segment,
  slotSize,
  stretchesOf,
  walkOf,
} from "./selective-scan-shared.js";

type Op = NonNullable<FusedOps["selectiveScan"]>;

/** States that a thread holds in registers; more would have to lie in memory. */
const MAX_STATES = 64;

function forward(memory: WebGpuMemory, args: ScanArgs, d: SelectiveScanDescriptor, save: boolean) {
  const { batch, length, dInner } = d;
  const slot = slotSize(d);
  const small = packSmall(memory, args, d, false);
  const y = memory.alloc(batch * length * dInner, "float32");
  // Without the states that the gradient needs nothing grows with the length but y.
  const segments = save ? scanSegments(memory, d)! : [{ first: 0, last: length }];
  const saved: WebGpuBuf[] = [];
  let incoming = args.initialState && { buf: memory.own(args.initialState.buf), start: 0 };
  for (const segment of segments) {
    const { states, splits } = forwardSegment(memory, args, d, { segment, save, small, incoming, y });
    incoming = { buf: states, start: splits * slot };
    saved.push(states);
  }
  const finalState = memory.alloc(slot, "float32");
  copyState(memory, incoming!.buf, finalState, incoming!.start, 0, slot);
  memory.free(small.buf);
  if (save) return { outputs: { y, finalState }, saved: saved as Buf[] };
  for (const states of saved) memory.free(states);
  return { outputs: { y, finalState }, saved: [] };
}

interface SegmentWork {
  readonly segment: Segment;
  readonly save: boolean;
  readonly small: ReturnType<typeof packSmall>;
  /** The states before the segment; without them zero. */
  readonly incoming: { readonly buf: WebGpuBuf; readonly start: number } | undefined;
  readonly y: WebGpuBuf;
}

/** The rows of y that belong to a segment, and the states: before it, after each of its `splits` stretches, and the kept ones. */
function forwardSegment(memory: WebGpuMemory, args: ScanArgs, d: SelectiveScanDescriptor, work: SegmentWork) {
  const { gpu } = memory;
  const { batch, length, dInner, dState, groups } = d;
  const { segment, save, small, incoming, y } = work;
  const slot = slotSize(d);
  const perGroup = dInner / groups;
  const tiles = Math.ceil(perGroup / 32);
  const layout = { CHUNK, ...walkOf(dState) };
  const workgroups = tiles * groups * batch;
  const tokens = segment.last - segment.first;
  const { splits, stretch } = stretchesOf(workgroups, tokens);
  const chunks = save ? Math.ceil(tokens / CHUNK) : 0;
  const states = memory.alloc((splits + 1 + chunks) * slot, "float32");
  if (incoming === undefined)
    gpu.run("fill/fill", { y: states }, { start: 0, count: slot, word: 0 }, { threads: slot });
  else copyState(memory, incoming.buf, states, incoming.start, 0, slot);
  const [x, delta, B, C, z] = [args.x, args.delta, args.B, args.C, args.z].map(rowsOf) as [
    Rows,
    Rows,
    Rows,
    Rows,
    Rows,
  ];
  const params = {
    batch,
    length,
    d_inner: dInner,
    groups,
    per_group: perGroup,
    tiles,
    splits,
    stretch,
    ...segment,
    flags: flagsOf(d, { save }),
    ...small.at,
    x_start: x.start,
    x_pitch: x.pitch,
    delta_start: delta.start,
    delta_pitch: delta.pitch,
    b_start: B.start,
    b_pitch: B.pitch,
    c_start: C.start,
    c_pitch: C.pitch,
    z_start: z.start,
    z_pitch: z.pitch,
  };
  const inputs = {
    x: memory.own(args.x.buf),
    delta: memory.own(args.delta.buf),
    B: memory.own(args.B.buf),
    C: memory.own(args.C.buf),
    z: optional(memory, args.z),
    small: small.buf,
    states,
  };
  const grid = gridOf(workgroups, splits);
  if (splits > 1) {
    const sums = memory.alloc(splits * batch * dInner, "float32");
    const constants = { PHASE: 1, ...layout };
    gpu.run("selective-scan/forward", { ...inputs, y: sums }, params, { constants, grid });
    const carries = { count: slot, channels: batch * dInner, d_state: dState, splits, d_inner: dInner };
    gpu.run("selective-scan/carries", { small: small.buf, sums, states }, carries, {
      constants: { IS_REVERSED: 0 },
      threads: slot,
    });
    memory.free(sums);
  }
  const constants = { PHASE: 0, ...layout };
  gpu.run("selective-scan/forward", { ...inputs, y }, params, { constants, grid });
  return { states, splits };
}

type Rows = ReturnType<typeof rowsOf>;

function copyState(
  memory: WebGpuMemory,
  x: WebGpuBuf,
  y: WebGpuBuf,
  x_start: number,
  y_start: number,
  run: number,
): void {
  place(memory, x, y, { rows: 1, run, x_start, x_pitch: 0, y_start, y_pitch: 0 });
}

/** The selective scan: see kernels/selective-scan. */
export function selectiveScan(memory: WebGpuMemory): Op {
  const strided = ["x", "delta", "B", "C", "z"] as const;
  return {
    supports: ({ dtype, dState, dInner }) =>
      dtype === "float32" && dState >= 1 && dState <= MAX_STATES && dInner > 0 && { strided },
    backwardReads: () => ["x", "delta", "A", "B", "C", "D", "z", "deltaBias", "marks"],
    supportsBackward: (d) => scanSegments(memory, d) !== undefined,
    forward: (args, d, { save }) => forward(memory, args, d, save),
    backward: (args, d, _outputs, saved, gradOutputs, needs) =>
      scanBackward(memory, args, d, saved, gradOutputs, needs),
  };
}
