import type { Buf, DType, FusedOps, Operand, SelectiveScanDescriptor } from "@mamba-ts/backend";
import type { CudaDevice } from "../device.js";
import { fill } from "../elementwise.js";
import { i32, i64, type Parameter, pointer } from "../launch.js";
import type { CudaBuf } from "../memory.js";
import { reduce } from "../reduce.js";

type Op = NonNullable<FusedOps["selectiveScan"]>;
type Args = Parameters<Op["forward"]>[0];

const FORWARD = "selective_scan";
const BACKWARD = "selective_scan_backward";
/** Tokens between states kept for the gradient: CHECKPOINT of the kernels. */
const CHECKPOINT = 16;
/** Tokens a tile. Chunks are whole tiles. */
const TILE = 32;

/** Threads a channel and states a thread of each variant, the smallest dState first. */
const variants = [
  [4, 1],
  [4, 2],
  [4, 4],
  [8, 4],
  [16, 8],
  [16, 16],
] as const;

interface Plan {
  readonly name: string;
  readonly grid: readonly [number, number, number];
  readonly threads: number;
  readonly chunks: number;
  readonly chunkLength: number;
  /** Blocks of one group. */
  readonly blocks: number;
  readonly sharedBackward: number;
}

/** Few channels leave the device idle: the length is split, at the price of a pass that only finds the states between the chunks. */
function planFor(device: CudaDevice, d: SelectiveScanDescriptor): Plan {
  const [lanes, perLane] = variants.find(([l, n]) => l * n >= d.dState) ?? variants.at(-1)!;
  const threads = lanes === 8 ? 256 : 128;
  const channels = threads / lanes;
  const blocks = Math.ceil(d.dInner / d.groups / channels);
  const all = blocks * d.groups * d.batch;
  const wanted = all >= 2 * device.info.multiprocessors ? 1 : Math.ceil((4 * device.info.multiprocessors) / all);
  const most = Math.max(1, Math.floor(d.length / 256));
  const length = Math.ceil(d.length / Math.min(wanted, most) / TILE) * TILE;
  const chunks = Math.ceil(d.length / length);
  const states = lanes * perLane;
  const floats = CHECKPOINT * (threads * perLane + 6 * channels + 2 * states + (threads / 32) * 2 * states);
  return {
    name: `${lanes}_${perLane}_${d.dtype}`,
    grid: [blocks * d.groups, d.batch, chunks],
    threads,
    chunks,
    chunkLength: length,
    blocks,
    sharedBackward: 4 * (floats + CHECKPOINT) + 64,
  };
}

interface Results {
  readonly y?: CudaBuf;
  readonly final?: CudaBuf;
  readonly saved?: CudaBuf | undefined;
  readonly starts?: CudaBuf | undefined;
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
    i64([plan.chunks, plan.chunkLength, Math.ceil(d.length / CHECKPOINT)]),
    ...[r.y, r.final, r.saved, r.starts, r.ends, r.sums, r.gy, r.gFinal, r.gx, r.gDelta, r.gz].map((x) => pointer(x)),
    ...[r.gA, r.gD, r.gBias, r.gInitial, r.gBC].map((x) => pointer(x)),
  ];
}

/** Runs `summary` on every chunk and chains the results: the states (or gradients) that the chunks start from, and the last. */
function between(
  device: CudaDevice,
  args: Args,
  d: SelectiveScanDescriptor,
  plan: Plan,
  summary: { file: string; kernel: string; first: CudaBuf | undefined; last: CudaBuf; results: Results },
): CudaBuf {
  const states = d.batch * d.dInner * d.dState;
  const ends = device.alloc(states * plan.chunks, "float32");
  const sums = device.alloc(d.batch * plan.chunks * d.dInner, "float32");
  const starts = device.alloc(states * plan.chunks, "float32");
  const struct = scanStruct(device, args, d, plan, { ...summary.results, ends, sums });
  device.launch(summary.file, `${summary.kernel}_${plan.name}`, plan.grid, [plan.threads], struct);
  device.each(FORWARD, "scan_join", states, [
    ...[device.own(args.A), pointer(summary.first), ends, sums, starts, summary.last],
    i64([states, d.dInner, d.dState, plan.chunks]),
    i32(summary.file === BACKWARD),
  ]);
  device.memory.free(ends);
  device.memory.free(sums);
  return starts;
}

function forward(device: CudaDevice, args: Args, d: SelectiveScanDescriptor, save: boolean) {
  const plan = planFor(device, d);
  const states = d.batch * d.dInner * d.dState;
  const y = device.alloc(d.batch * d.length * d.dInner, d.dtype);
  const initial = args.initialState === undefined ? undefined : device.own(args.initialState);
  if (d.length === 0 || states === 0) {
    const final = (initial === undefined ? fill(device, [states], 0, "float32") : device.copyOf(initial)) as CudaBuf;
    return { outputs: { y, finalState: final }, saved: [] };
  }
  const final = device.alloc(states, "float32");
  const saved = save ? device.alloc(Math.ceil(d.length / CHECKPOINT) * states, "float32") : undefined;
  const starts =
    plan.chunks === 1
      ? undefined
      : between(device, args, d, plan, {
          file: FORWARD,
          kernel: "scan_summary",
          first: initial,
          last: final,
          results: {},
        });
  const struct = scanStruct(device, args, d, plan, { y, final, saved, starts });
  device.launch(FORWARD, `scan_forward_${plan.name}`, plan.grid, [plan.threads], struct);
  if (starts !== undefined) device.memory.free(starts);
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
  const plan = planFor(device, d);
  const elements = d.batch * d.length * d.dInner;
  const states = d.batch * d.dInner * d.dState;
  const parts = d.batch * plan.chunks;
  const rows = d.batch * d.length;
  const make = (count: number, dtype: DType = "float32"): CudaBuf => device.alloc(count, dtype);
  const given = (x: Operand | undefined): CudaBuf | undefined => (x === undefined ? undefined : device.own(x));
  const [gy, gFinal] = [given(gradOutputs.y), given(gradOutputs.finalState)];
  const gInitial = make(states);
  const starts =
    plan.chunks === 1
      ? undefined
      : between(device, args, d, plan, {
          ...{ file: BACKWARD, kernel: "scan_backward_summary", first: gFinal, last: gInitial },
          results: { gy },
        });
  const gx = make(elements, d.dtype);
  const gDelta = make(elements, d.dtype);
  const gz = args.z === undefined ? undefined : make(elements, d.dtype);
  const partial = {
    gA: make(parts * d.dInner * d.dState),
    gD: make(parts * d.dInner),
    gBias: make(parts * d.dInner),
    gBC: make(plan.blocks * rows * d.groups * 2 * d.dState),
  };
  const results: Results = { saved: device.own(saved[0]!), starts, gy, gFinal, gx, gDelta, gz, gInitial, ...partial };
  const struct = scanStruct(device, args, d, plan, results);
  device.launch(BACKWARD, `scan_backward_${plan.name}`, plan.grid, [plan.threads], struct, plan.sharedBackward);
  const gB = make(rows * d.groups * d.dState, d.dtype);
  const gC = make(rows * d.groups * d.dState, d.dtype);
  const join = [partial.gBC, gB, gC, i64([rows, d.groups, d.dState, plan.blocks])];
  device.each(BACKWARD, `scan_join_bc_${d.dtype}`, rows * d.groups * 2 * d.dState, join);
  const joined = (buf: CudaBuf, each: number): Buf =>
    reduce(device, "sum", { buf, offset: 0, rowStride: each, shape: [parts, each], dtype: "float32" }, 0);
  const gA = joined(partial.gA, d.dInner * d.dState);
  const [gD, gBias] = [joined(partial.gD, d.dInner), joined(partial.gBias, d.dInner)];
  for (const buf of [...Object.values(partial), ...(starts === undefined ? [] : [starts])]) device.memory.free(buf);
  const all = {
    ...{ x: gx, delta: gDelta, B: gB, C: gC, A: gA, D: gD, deltaBias: gBias, initialState: gInitial },
    ...(gz === undefined ? {} : { z: gz }),
  };
  const wanted = Object.entries(all).filter(([name]) => args[name as keyof typeof args] !== undefined);
  for (const [name, buf] of Object.entries(all)) if (!wanted.some(([n]) => n === name)) device.memory.free(buf);
  return Object.fromEntries(wanted);
}

/** Kernels of /kernels/selective-scan: float32, bf16 and f16, dState up to 256, every option, gradients of everything up to dState 128. */
export function selectiveScan(device: CudaDevice): Op {
  return {
    supports: (d) =>
      d.dtype !== "float64" && d.dState <= 256 && d.dState > 0 && { strided: ["x", "delta", "B", "C", "z"] },
    forward: (args, d, { save }) => forward(device, args, d, save),
    // Above, a tile's states and sums do not fit in shared memory.
    supportsBackward: (d) => d.length > 0 && d.dState <= 128,
    backward(args, d, _outputs, saved, gradOutputs, needs) {
      const all = backward(device, args, d, saved, gradOutputs) as { readonly [name: string]: Buf };
      for (const [name, buf] of Object.entries(all)) if (!needs.has(name as never)) device.memory.free(buf);
      return Object.fromEntries(Object.entries(all).filter(([name]) => needs.has(name as never)));
    },
  };
}
