import type { Buf, DType, FusedOps, MambaStepDescriptor, Operand } from "@mamba-ts/backend";
import type { CudaDevice, LaunchOptions } from "../device.js";
import { f64, i64, type Parameter, pointer } from "../launch.js";
import { product } from "../matmul.js";
import type { CudaBuf } from "../memory.js";
import { ALL_SHARED, preparesNorm, squaresOf, takesTiles, tileProducts } from "./mamba-step-tiles.js";
import { NextNorms } from "./next-norm.js";

type Op = NonNullable<FusedOps["mambaStep"]>;
type Args = Parameters<Op["forward"]>[0];
type Weights = "float32" | "bf16" | "f16";
const FILE = "mamba_step";
const FILE_MANY = "mamba_step_many";
const FILE_STATES = "mamba_step_states";
/** Sequences up to which reading the weights is all that counts. */
const FEW = 4;
/** States of a channel at most, and room for dt, B and C of the sequences of a block. */
const MOST_STATES = 256;
const MOST_ROWS = 8;

/** What the kernels hand on to one another. */
interface Between {
  readonly u: CudaBuf;
  readonly dbc: CudaBuf;
  readonly z?: CudaBuf;
  readonly y?: CudaBuf;
  readonly normed?: CudaBuf;
  readonly uCast?: CudaBuf;
  readonly yCast?: CudaBuf;
  readonly xz?: CudaBuf;
}
interface Results {
  readonly out: CudaBuf;
  readonly convState: CudaBuf;
  readonly ssmState: CudaBuf;
}

/** `struct Step` of the kernels. */
function stepStruct(device: CudaDevice, args: Args, d: MambaStepDescriptor, r: Results, b: Between): Parameter[] {
  const at = (x: Operand | undefined): Parameter => pointer(x === undefined ? undefined : device.own(x));
  const { x, update, normWeight, normBias, inBias, convWeight, convBias, dtBias, dtNorm, bNorm, cNorm, A_log, D } =
    args;
  return [
    ...[x, update, normWeight, normBias, inBias, convWeight, convBias].map(at),
    ...[dtBias, dtNorm, bNorm, cNorm, A_log, D, args.outBias].map(at),
    ...[args.inProj, args.xProj, args.dtProj, args.outProj, args.convState, args.ssmState].map(at),
    ...[r.convState, r.ssmState, r.out, b.u, b.z, b.dbc, b.y, b.normed, b.uCast, b.yCast, b.xz].map((x) => pointer(x)),
    i64([d.batch, d.dModel, d.dInner, d.dState, d.dConv, d.dtRank]),
    ...[f64(d.normEps), f64(d.innerNormEps)],
    i64([Number(d.norm === "layer"), Number(d.innerNorm !== "none")]),
  ];
}

/** Lanes that share a channel, states of each, and sequences of a block, for which there is a kernel. */
function advanceKernel({ dState, batch }: MambaStepDescriptor): readonly [lanes: number, states: number, rows: number] {
  if (dState <= 8) return [4, 2, 1];
  if (dState <= 16) return [16, 1, batch > FEW ? MOST_ROWS : 1];
  return dState <= 128 ? [16, 8, 1] : [32, 8, 1];
}

/** Whether 4 lanes take a channel of 4 sequences, 16 bytes at a time. */
function isByQuads({ batch, dState, dtRank, weightDtype }: MambaStepDescriptor): boolean {
  const fits = dState <= 16 && dState % 4 === 0 && dtRank <= 128 && dtRank % 4 === 0;
  return batch > FEW && weightDtype === "float32" && fits;
}

/** Whether a warp takes 16 channels of 8 sequences, dt_proj on the matrix units. */
function isByStates({ batch, dInner, dState, dtRank, weightDtype }: MambaStepDescriptor): boolean {
  const fits = dState <= 16 && dState % 4 === 0 && dInner % 16 === 0 && dtRank % 8 === 0 && dtRank <= 256;
  return batch > FEW && weightDtype !== "float32" && fits;
}

function advance(
  device: CudaDevice,
  struct: Parameter[],
  d: MambaStepDescriptor,
  weights: Weights,
  options?: LaunchOptions,
): void {
  const launch = (file: string, kernel: string, grid: readonly [number, number], threads: number, shared: number) =>
    device.launch(file, kernel, grid, [threads], struct, shared, true, options);
  if (isByStates(d)) {
    const { batch, dInner, dState, dtRank } = d;
    const groups = Math.ceil(batch / 8);
    // A warp's channels, a block's warps: 8 and 6 while all blocks find room on the device at a time, 3 a multiprocessor.
    const [each, warps] = Math.ceil(dInner / 48) * groups <= 3 * device.info.multiprocessors ? [8, 6] : [16, 4];
    const grid = [Math.ceil(dInner / (warps * each)), groups] as const;
    // Of each warp rows of dt_proj, u, gate, bias and D; dt, B and C of the block's sequences.
    const shared = warps * each * (128 * Math.ceil(dtRank / 64) + 72) + 8 * 4 * (dtRank + 2 * dState + 4);
    launch(FILE_STATES, `step_advance_states_${dState}_${each}_${weights}`, grid, 32 * warps, shared);
    return;
  }
  if (isByQuads(d)) {
    const grid = [Math.ceil(d.dInner / 64), Math.ceil(d.batch / 4)] as const;
    const shared = 4 * Math.min(4, d.batch) * (d.dtRank + 2 * d.dState);
    launch(FILE, "step_advance_quads_float32", grid, 256, shared);
    return;
  }
  const [lanes, states, rows] = advanceKernel(d);
  const grid = [Math.ceil(d.dInner / (256 / lanes)), Math.ceil(d.batch / rows)] as const;
  const shared = 4 * Math.min(rows, d.batch) * (d.dtRank + 2 * d.dState);
  launch(FILE, `step_advance_${lanes}_${states}_${rows}_${weights}`, grid, 256, shared);
}

/** 16-byte packs of a row of in_proj a lane, where one sequence's stream is normalised by each warp; undefined for other shapes. */
function packsFor({ batch, dModel, dConv, norm }: MambaStepDescriptor, weights: Weights): number | undefined {
  const each = weights === "float32" ? 4 : 8;
  return batch === 1 && norm === "rms" && dConv <= 32 && dModel % each === 0
    ? [4, 8].find((n) => 32 * n * each >= dModel)
    : undefined;
}

/** Four kernels, each bound by the weights it streams. */
function few(device: CudaDevice, args: Args, d: MambaStepDescriptor, results: Results, weights: Weights): void {
  const { batch, dModel, dInner, dState, dtRank } = d;
  const [width, each] = [dtRank + 2 * dState, batch === 1 ? 1 : FEW];
  const [u, z, y] = [0, 1, 2].map(() => device.alloc(batch * dInner, "float32")) as [CudaBuf, CudaBuf, CudaBuf];
  const dbc = device.alloc(batch * width, "float32");
  const struct = stepStruct(device, args, d, results, { u, z, dbc, y });
  const groups = Math.ceil(batch / each);
  const run = (kernel: string, blocks: number, threads: number, shared = 0, early: boolean | "ends" = true): void =>
    device.launch(FILE, `${kernel}_${each}_${weights}`, [blocks, groups], [threads], struct, shared, early);
  // The other kernels begin when this one has seen all before it.
  const read = [args.inProj, args.inBias, args.normWeight, args.normBias, args.convWeight, args.convBias];
  const early = read.every((x) => x === undefined || device.memory.isSettled(device.own(x))) && "ends";
  const packs = packsFor(d, weights);
  if (packs === undefined) run("step_in_project", Math.ceil((2 * dInner) / 8), 256, 4 * each * dModel, early);
  else device.launch(FILE, `step_in_project_one_${packs}_${weights}`, [Math.ceil(dInner / 4)], [128], struct, 0, early);
  run("step_x_project", width, 128);
  advance(device, struct, d, weights);
  run("step_out_project", Math.ceil(dModel / 4), 128);
  for (const buf of [u, z, y, dbc]) device.memory.free(buf);
}

/** Whether the matrix units take rows of these sizes as they lie. */
function isSkinny({ dModel, dInner, weightDtype }: MambaStepDescriptor): boolean {
  return weightDtype !== "float32" && dModel % 32 === 0 && dInner % 32 === 0;
}

/** Weights of in_proj from which on products by tiles, or cuBLASLt's, are the faster ones (measured at 2.4 and 16.8 million). */
const WIDE = 2 ** 23;

/** How many sequences go. */
function manyFor(device: CudaDevice, d: MambaStepDescriptor): typeof manyByTiles {
  const isWide = 2 * d.dInner * d.dModel >= WIDE;
  if (isWide && isSkinny(d) && takesTiles(device, d)) return manyByTiles;
  return isSkinny(d) && !(isWide && device.hasCublas) ? many : manyByLibrary;
}

/** Whether nothing that is enqueued still writes these. */
function areSettled(device: CudaDevice, operands: readonly (Operand | undefined)[]): boolean {
  return operands.every((x) => x === undefined || device.memory.isSettled(device.own(x)));
}

/** What a step's kernels behind the norm read early. */
function without({
  x,
  update,
  normWeight,
  nextNormWeight,
  ...rest
}: Args): Omit<Args, "x" | "update" | "normWeight" | "nextNormWeight"> {
  return rest;
}

/**
 * The norm of many sequences, whose weight comes while the kernels before still run. Those that follow begin when it has seen all before it; where it
 * `mayPass`, at once, if nothing that is enqueued still writes what any of them reads early: all that is given but the stream.
 */
function normalise(
  device: CudaDevice,
  struct: Parameter[],
  args: Args,
  d: MambaStepDescriptor,
  weights: Weights,
  mayPass: boolean,
  options?: LaunchOptions,
): void {
  const passes = mayPass && areSettled(device, Object.values(without(args)).concat(args.normWeight));
  const early = passes || (areSettled(device, [args.normWeight]) && "ends");
  const kernel = passes ? "step_norm_passing" : "step_norm";
  device.launch(FILE_MANY, `${kernel}_${weights}`, [d.batch], [256], struct, 0, early, options);
}

/** What five kernels hand on to one another. */
function rowsOf(device: CudaDevice, { batch, dModel, dInner, dState, dtRank }: MambaStepDescriptor, weights: Weights) {
  return {
    u: device.alloc(batch * dInner, "float32"),
    z: device.alloc(batch * dInner, "float32"),
    dbc: device.alloc(batch * (dtRank + 2 * dState), "float32"),
    normed: device.alloc(batch * dModel, weights),
    uCast: device.alloc(batch * dInner, weights),
    yCast: device.alloc(batch * dInner, weights),
  };
}

/** Five kernels, products on the matrix units with what follows them done at once. */
function many(device: CudaDevice, args: Args, d: MambaStepDescriptor, results: Results, weights: Weights): void {
  const { batch, dModel, dInner, dState, dtRank } = d;
  const between = rowsOf(device, d, weights);
  const struct = stepStruct(device, args, d, results, between);
  // 16 mt rows and 8 nt columns a block.
  const run = (kernel: string, columns: number, mt: number, nt: number): void => {
    const grid = [Math.ceil(batch / (16 * mt)), Math.ceil(columns / (8 * nt))] as const;
    device.launch(FILE_MANY, `${kernel}_${weights}`, grid, [256], struct, 4096 * mt * nt, true);
  };
  normalise(device, struct, args, d, weights, false);
  run("step_in_project_many", 2 * dInner, 2, 4);
  run("step_x_project_many", dtRank + 2 * dState, 1, 1);
  advance(device, struct, d, weights);
  run("step_out_project_many", dModel, 1, 2);
  for (const buf of Object.values(between)) device.memory.free(buf);
}

/**
 * The same five for wide models, whose products bring their weights by the copy engine; or four, where the step before has prepared the norm. Where
 * the next block's norm is known, out_proj prepares that one.
 */
function manyByTiles(
  device: CudaDevice,
  args: Args,
  d: MambaStepDescriptor,
  results: Results,
  weights: Weights,
  norms: NextNorms,
): void {
  const between = rowsOf(device, d, weights);
  const struct = stepStruct(device, args, d, results, between);
  const products = tileProducts(device, struct, d);
  const [mayPrepare, inProj] = [preparesNorm(d) && args.normBias === undefined, device.own(args.inProj)];
  const taken =
    mayPrepare && args.update === undefined
      ? norms.take(device.own(args.x), device.own(args.normWeight), d.batch * d.dModel)
      : undefined;
  if (taken === undefined) {
    normalise(device, struct, args, d, weights, true, ALL_SHARED);
    products.inProject(between.normed, inProj);
  } else products.inProjectPrepared(taken, inProj, areSettled(device, Object.values(without(args))) && "ends");
  products.xProject(between.uCast, device.own(args.xProj));
  advance(device, struct, d, weights, ALL_SHARED);
  const weight = mayPrepare && args.nextNormWeight !== undefined ? device.own(args.nextNormWeight) : undefined;
  const next = weight && { weight, ...norms.place(d.batch, d.dModel, squaresOf(d.dModel)) };
  products.outProject(between.yCast, device.own(args.outProj), next);
  if (next !== undefined) norms.prepared(results.out, next.weight, next);
  for (const buf of Object.values(between)) device.memory.free(buf);
}

/** The products by cuBLASLt, the rest in three kernels between them. */
function manyByLibrary(
  device: CudaDevice,
  args: Args,
  d: MambaStepDescriptor,
  results: Results,
  weights: Weights,
): void {
  const { batch, dModel, dInner, dState, dtRank } = d;
  const width = dtRank + 2 * dState;
  const between = {
    u: device.alloc(batch * dInner, "float32"),
    dbc: device.alloc(batch * width, "float32"),
    xz: device.alloc(batch * 2 * dInner, "float32"),
    normed: device.alloc(batch * dModel, weights),
    uCast: device.alloc(batch * dInner, weights),
    yCast: device.alloc(batch * dInner, weights),
  };
  const struct = stepStruct(device, args, d, results, between);
  const times = (x: CudaBuf, weight: Operand, into: CudaBuf, [k, n]: readonly [number, number], accumulate = false) => {
    const left = { buf: x, offset: 0, rowStride: k, transposed: false, batchStride: 0 };
    const right = { buf: device.own(weight), offset: 0, rowStride: k, transposed: true, batchStride: 0 };
    product(device, left, right, into, { m: batch, n, k, batch: 1 }, { accumulate });
  };
  normalise(device, struct, args, d, weights, false);
  times(between.normed, args.inProj, between.xz, [dModel, 2 * dInner]);
  device.launch(FILE_MANY, `step_conv_${weights}`, [Math.ceil(dInner / 256), batch], [256], struct, 0, "ends");
  times(between.uCast, args.xProj, between.dbc, [dInner, width]);
  advance(device, struct, d, weights);
  times(between.yCast, args.outProj, results.out, [dInner, dModel], true);
  for (const buf of Object.values(between)) device.memory.free(buf);
}

/** Kernels of /kernels/mamba-step: one token a sequence, weights in float32, bf16 or f16, everything else in float32. */
export function mambaStep(device: CudaDevice): Op {
  const stored: readonly DType[] = ["float32", "bf16", "f16"];
  const norms = new NextNorms(device);
  return {
    supports: (d) =>
      d.dtype === "float32" &&
      d.length === 1 &&
      stored.includes(d.weightDtype) &&
      d.dState <= MOST_STATES &&
      // What a block keeps of the sequences it works on.
      FEW * d.dModel * 4 <= 2 ** 17 &&
      MOST_ROWS * (d.dtRank + 2 * d.dState) * 4 <= 2 ** 17 &&
      (d.batch <= FEW ||
        (isSkinny(d)
          ? d.weightDtype === d.innerDtype
          : device.hasCublas && (d.weightDtype === "float32" || d.weightDtype === d.innerDtype))),
    forward(args, d) {
      const { batch, dModel, dInner, dState, dConv, inPlace } = d;
      const states = inPlace
        ? { convState: device.own(args.convState), ssmState: device.own(args.ssmState) }
        : {
            convState: device.alloc(batch * (dConv - 1) * dInner, "float32"),
            ssmState: device.alloc(batch * dInner * dState, "float32"),
          };
      const results = { ...states, out: device.alloc(batch * dModel, "float32") };
      const run = batch <= FEW ? few : manyFor(device, d);
      run(device, args, d, results, d.weightDtype as Weights, norms);
      const { out, convState, ssmState } = results;
      return { outputs: { out, convState, ssmState } satisfies { readonly [name: string]: Buf } };
    },
  };
}
