import type { Buf, DType, FusedOps, Operand, SelectiveScanDescriptor } from "@mamba-ts/backend";
import type { CudaDevice } from "../device.js";
import { fill } from "../elementwise.js";
import { i64, type Parameter, pointer } from "../launch.js";
import type { CudaBuf } from "../memory.js";
import { type Cut, cutFor } from "./scan-plan.js";

type Op = NonNullable<FusedOps["selectiveScan"]>;
type Args = Parameters<Op["forward"]>[0];

/** The kernels that serve a range of dState, and how they divide their work. */
interface Kernels {
  /** Largest dState. */
  readonly states: number;
  /** File and kernel, less the dtype's suffix. */
  readonly forward: readonly [string, string];
  /** The same, keeping states for the gradient. */
  readonly saving: readonly [string, string];
  readonly summary: readonly [string, string];
  readonly backward: readonly [string, string];
  readonly backwardSummary: readonly [string, string];
  readonly threads: number;
  readonly backwardThreads: number;
  /** Whether the blocks are a row, of which some may take the whole length (`ringPlace`). */
  readonly row: boolean;
  /** Channels a block. */
  readonly channels: number;
  /** Blocks that run at once on a multiprocessor, forward and backward: chunks are made to fill it. */
  readonly resident: readonly [number, number];
  /** Dynamic shared memory. */
  readonly forwardBytes: number;
  readonly backwardBytes: number;
  /** Tokens between states kept for the gradient: CHECKPOINT_OF of the kernels. */
  readonly checkpoint: number;
}

const JOIN = "selective_scan_join";

/** dState up to 16: a ring of 8 warps with 16 tokens each. The bytes are the sizes of `Ring` and `RingBackward`. */
const ring: Kernels = {
  states: 16,
  forward: ["scan_ring", "scan_ring"],
  saving: ["scan_ring", "scan_ring_saving"],
  summary: ["scan_ring", "scan_ring"],
  backward: ["scan_ring_backward", "scan_ring_backward"],
  backwardSummary: ["scan_ring_backward_summary", "scan_ring_backward_summary"],
  ...{ row: true, threads: 256, backwardThreads: 256, channels: 32, resident: [2, 1], checkpoint: 16 },
  forwardBytes: 22_016,
  backwardBytes: 97_280,
};

/** More states: `lanes` threads a channel with `perLane` states each. */
function lanesOf(lanes: number, perLane: number): Kernels {
  const name = `${lanes}_${perLane}`;
  const threads = lanes === 8 ? 256 : 128;
  const channels = threads / lanes;
  const states = lanes * perLane;
  const checkpoint = states > 128 ? 8 : 16;
  const floats = checkpoint * (threads * perLane + 6 * channels + 2 * states + (threads / 32) * 2 * states);
  return {
    states,
    forward: ["selective_scan", `scan_forward_${name}`],
    saving: ["selective_scan", `scan_forward_${name}`],
    summary: ["selective_scan", `scan_summary_${name}`],
    backward: ["selective_scan_backward", `scan_backward_${name}`],
    backwardSummary: ["selective_scan_backward", `scan_backward_summary_${name}`],
    ...{ row: false, threads, backwardThreads: threads, channels, resident: [2, 1], checkpoint },
    forwardBytes: 0,
    backwardBytes: 4 * (floats + checkpoint) + 64,
  };
}
/** The smallest dState first. */
const variants = [ring, lanesOf(8, 4), lanesOf(16, 8), lanesOf(16, 16)];

/** How a launch is divided: see `cutFor`. */
interface Plan extends Cut {
  readonly kernels: Kernels;
  readonly grid: readonly [number, number, number];
  /** Blocks of one group, and of all groups and sequences, if each takes the whole length. */
  readonly blocks: number;
  readonly units: number;
}

function planFor(device: CudaDevice, d: SelectiveScanDescriptor, direction: 0 | 1): Plan {
  const kernels = variants.find(({ states }) => states >= d.dState) ?? variants.at(-1)!;
  const blocks = Math.ceil(d.dInner / d.groups / kernels.channels);
  const units = blocks * d.groups * d.batch;
  const { multiprocessors } = device.info;
  const resident = kernels.resident[direction];
  const isBackward = direction === 1;
  const cut = cutFor({ units, length: d.length, resident, multiprocessors, isRow: kernels.row, isBackward });
  // Forward the summaries of all chunks but the first and the last are blocks of the same launch.
  const each = isBackward ? cut.chunks : 2 * cut.chunks - 2;
  const unsplit = cut.chunks === 1 ? units : cut.unsplit;
  const grid = kernels.row
    ? ([unsplit + (units - unsplit) * each, 1, 1] as const)
    : ([blocks * d.groups, d.batch, cut.chunks] as const);
  return { kernels, blocks, units, grid, ...cut, unsplit };
}

interface Results {
  readonly firstChunk?: number;
  readonly known?: CudaBuf | undefined;
  readonly y?: CudaBuf;
  readonly final?: CudaBuf;
  readonly saved?: CudaBuf | undefined;
  readonly ends?: CudaBuf | undefined;
  readonly sums?: CudaBuf | undefined;
  readonly gy?: CudaBuf | undefined;
  readonly gFinal?: CudaBuf | undefined;
  readonly gx?: CudaBuf;
  readonly gDelta?: CudaBuf;
  readonly gz?: CudaBuf | undefined;
  readonly gA?: CudaBuf;
  readonly gD?: CudaBuf;
  readonly gBias?: CudaBuf;
  readonly gInitial?: CudaBuf | undefined;
  readonly gBC?: CudaBuf;
}

/** `struct Scan` of the kernels. */
function scanStruct(device: CudaDevice, args: Args, d: SelectiveScanDescriptor, plan: Plan, r: Results): Parameter[] {
  const at = (x: Operand | undefined): Parameter =>
    x === undefined ? pointer(undefined) : pointer(device.own(x), x.offset);
  const stride = (x: Operand | undefined): Parameter => i64(x?.rowStride ?? 0);
  return [
    ...[args.x, args.delta, args.B, args.C, args.z, args.A, args.D, args.deltaBias, args.initialState, args.marks].map(
      at,
    ),
    ...[args.x, args.delta, args.B, args.C, args.z].map(stride),
    i64([d.batch, d.length, d.dInner, d.dState, d.groups, Number(d.softplus)]),
    i64([plan.chunks, plan.chunkLength, plan.shift, Math.ceil(d.length / plan.kernels.checkpoint)]),
    i64([r.firstChunk ?? 0, plan.unsplit]),
    ...[r.known, r.y, r.final, r.saved, r.ends, r.sums, r.gy, r.gFinal, r.gx, r.gDelta, r.gz].map((x) => pointer(x)),
    ...[r.gA, r.gD, r.gBias, r.gInitial, r.gBC].map((x) => pointer(x)),
  ];
}

/** What each chunk does to the state, which the chunks after it chain to find where they start; which of them is known, if one launch finds and uses them. */
interface Ends {
  readonly ends: CudaBuf;
  readonly sums: CudaBuf;
  readonly known?: CudaBuf;
}

/** Finds the ends of the chunks that another one follows (backward: precedes), or, in a row forward, makes room for what the launch itself finds. */
function chunkEnds(
  device: CudaDevice,
  args: Args,
  d: SelectiveScanDescriptor,
  plan: Plan,
  direction: 0 | 1,
  gy?: CudaBuf,
): Ends | undefined {
  const { kernels, chunks, units, unsplit } = plan;
  if (chunks === 1) return undefined;
  const ends = device.alloc(d.batch * d.dInner * d.dState * chunks, "float32");
  const sums = device.alloc(d.batch * chunks * d.dInner, "float32");
  if (kernels.row && direction === 0) {
    const known = device.alloc(units * chunks, "int32");
    // In the stream: before each launch, a replayed one too.
    device.native.set(known.pointer, 0, known.byteLength);
    return { ends, sums, known };
  }
  const struct = scanStruct(device, args, d, plan, { gy, firstChunk: direction, ends, sums });
  const [file, kernel] = direction === 0 ? kernels.summary : kernels.backwardSummary;
  const [x, y] = plan.grid;
  const grid = kernels.row ? ([(units - unsplit) * (chunks - 1)] as const) : ([x, y, chunks - 1] as const);
  device.launch(file, `${kernel}_${d.dtype}`, grid, [kernels.threads], struct);
  return { ends, sums };
}

function release(device: CudaDevice, ends: Ends | undefined): void {
  for (const buf of Object.values(ends ?? {})) device.memory.free(buf as CudaBuf);
}

function forward(device: CudaDevice, args: Args, d: SelectiveScanDescriptor, save: boolean) {
  const plan = planFor(device, d, 0);
  const { kernels } = plan;
  const states = d.batch * d.dInner * d.dState;
  const y = device.alloc(d.batch * d.length * d.dInner, d.dtype);
  const initial = args.initialState === undefined ? undefined : device.own(args.initialState);
  if (d.length === 0 || states === 0) {
    const final = (initial === undefined ? fill(device, [states], 0, "float32") : device.copyOf(initial)) as CudaBuf;
    return { outputs: { y, finalState: final }, saved: [] };
  }
  const final = device.alloc(states, "float32");
  const saved = save ? device.alloc(Math.ceil(d.length / kernels.checkpoint) * states, "float32") : undefined;
  const ends = chunkEnds(device, args, d, plan, 0);
  const struct = scanStruct(device, args, d, plan, { y, final, saved, ...ends });
  const [file, kernel] = save ? kernels.saving : kernels.forward;
  device.launch(file, `${kernel}_${d.dtype}`, plan.grid, [kernels.threads], struct, kernels.forwardBytes);
  release(device, ends);
  return { outputs: { y, finalState: final }, saved: saved === undefined ? [] : [saved] };
}

type Backward = NonNullable<Op["backward"]>;

function backward(
  device: CudaDevice,
  args: Args,
  d: SelectiveScanDescriptor,
  saved: readonly Buf[],
  gradOutputs: Parameters<Backward>[4],
): ReturnType<Backward> {
  const plan = planFor(device, d, 1);
  const { kernels } = plan;
  const elements = d.batch * d.length * d.dInner;
  const states = d.batch * d.dInner * d.dState;
  const parts = d.batch * plan.chunks;
  const rows = d.batch * d.length;
  const make = (count: number, dtype: DType = "float32"): CudaBuf => device.alloc(count, dtype);
  const given = (x: Operand | undefined): CudaBuf | undefined => (x === undefined ? undefined : device.own(x));
  const [gy, gFinal] = [given(gradOutputs.y), given(gradOutputs.finalState)];
  const gInitial = make(states);
  const ends = chunkEnds(device, args, d, plan, 1, gy);
  const gx = make(elements, d.dtype);
  const gDelta = make(elements, d.dtype);
  const gz = args.z === undefined ? undefined : make(elements, d.dtype);
  const partial = {
    gA: make(parts * d.dInner * d.dState),
    gD: make(parts * d.dInner),
    gBias: make(parts * d.dInner),
    gBC: make(plan.blocks * rows * d.groups * 2 * d.dState),
  };
  const results: Results = { saved: device.own(saved[0]!), ...ends, gy, gFinal, gx, gDelta, gz, gInitial, ...partial };
  const struct = scanStruct(device, args, d, plan, results);
  const [file, kernel] = kernels.backward;
  const isAfter = ends !== undefined && kernels.row;
  const name = `${kernel}_${d.dtype}`;
  device.launch(file, name, plan.grid, [kernels.backwardThreads], struct, kernels.backwardBytes, isAfter && "ends");
  const gB = make(rows * d.groups * d.dState, d.dtype);
  const gC = make(rows * d.groups * d.dState, d.dtype);
  const [gA, gD, gBias] = [make(d.dInner * d.dState), make(d.dInner), make(d.dInner)];
  const join = [...struct, gB, gC, gA, gD, gBias, i64(plan.blocks)];
  device.each(JOIN, `scan_join_${d.dtype}`, rows * d.groups * 2 * d.dState, join, kernels.row && "ends");
  for (const buf of Object.values(partial)) device.memory.free(buf);
  release(device, ends);
  const all = {
    ...{ x: gx, delta: gDelta, B: gB, C: gC, A: gA, D: gD, deltaBias: gBias, initialState: gInitial },
    ...(gz === undefined ? {} : { z: gz }),
  };
  const wanted = Object.entries(all).filter(([name]) => args[name as keyof typeof args] !== undefined);
  for (const [name, buf] of Object.entries(all)) if (!wanted.some(([n]) => n === name)) device.memory.free(buf);
  return Object.fromEntries(wanted);
}

/** Kernels of /kernels/selective-scan: float32, bf16 and f16, dState up to 256, every option, gradients of everything. */
export function selectiveScan(device: CudaDevice): Op {
  return {
    supports: (d) =>
      d.dtype !== "float64" && d.dState <= 256 && d.dState > 0 && { strided: ["x", "delta", "B", "C", "z"] },
    forward: (args, d, { save }) => forward(device, args, d, save),
    supportsBackward: (d) => d.length > 0,
    backward(args, d, _outputs, saved, gradOutputs, needs) {
      const all = backward(device, args, d, saved, gradOutputs) as { readonly [name: string]: Buf };
      for (const [name, buf] of Object.entries(all)) if (!needs.has(name as never)) device.memory.free(buf);
      return Object.fromEntries(Object.entries(all).filter(([name]) => needs.has(name as never)));
    },
  };
}
