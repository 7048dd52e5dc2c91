import type { MambaStepDescriptor } from "@mamba-ts/backend";
import type { CudaDevice, LaunchOptions } from "../device.js";
import { i64, type Parameter, pointer } from "../launch.js";
import type { CudaBuf } from "../memory.js";
import type { PreparedNorm } from "./next-norm.js";

const FILE = "mamba_step_tiles";
/** Elements of k of a tile, rows of a block, its threads; stages on their way (see common/tiles.cuh). */
const [TILE_K, TILE_ROWS, THREADS, FEWEST, MOST] = [64, 64, 384, 4, 32];

/** A product: columns of its tiles, blocks of a cluster at most, shared memory of a block at most. */
interface Tiled {
  readonly kernel: "step_in_project_tiles" | "step_x_project_tiles" | "step_out_project_tiles";
  readonly columns: number;
  readonly cluster: number;
  readonly room: number;
  /** The weight's rows are two parts, of each of which a tile has half its columns. */
  readonly parts: number;
}
const IN: Tiled = { kernel: "step_in_project_tiles", columns: 64, cluster: 1, room: 220 * 1024, parts: 2 };
const X: Tiled = { kernel: "step_x_project_tiles", columns: 16, cluster: 8, room: 220 * 1024, parts: 1 };
const OUT: Tiled = { kernel: "step_out_project_tiles", columns: 32, cluster: 2, room: 140 * 1024, parts: 1 };

/** How on-chip memory is divided for all kernels of a step by tiles. */
export const ALL_SHARED: LaunchOptions = { isAllShared: true };

/** Blocks that share out k. */
function clusterOf({ cluster }: Tiled, k: number): number {
  let size = cluster;
  while ((k / TILE_K) % size !== 0) size /= 2;
  return size;
}

/** Whether the products of a step go by tiles: in_proj in one wave of blocks. */
export function takesTiles(device: CudaDevice, d: MambaStepDescriptor): boolean {
  const { batch, dModel, dInner, dState, dConv, dtRank, weightDtype } = d;
  const blocks = (dInner / (IN.columns / 2)) * Math.ceil(batch / TILE_ROWS);
  return (
    device.hasTiles &&
    weightDtype !== "float32" &&
    dModel % TILE_K === 0 &&
    dInner % TILE_K === 0 &&
    (dtRank + 2 * dState) % 4 === 0 &&
    dConv <= 4 &&
    blocks <= device.info.multiprocessors
  );
}

/** Whether the norm of the block behind this one may be prepared: unscaled, it would leave the range of f16. */
export function preparesNorm({ norm, innerDtype, dModel }: MambaStepDescriptor): boolean {
  return norm === "rms" && innerDtype === "bf16" && dModel % OUT.columns === 0;
}

/** Sums of squares a row of the prepared norm has. */
export const squaresOf = (dModel: number): number => dModel / OUT.columns;

/** What of `struct TiledStep` belongs to prepared norms. */
interface Norms {
  /** in_proj's rows are a prepared norm, whose squares these are. */
  readonly squares?: CudaBuf;
  /** out_proj prepares the norm with this weight. */
  readonly next?: PreparedNorm & { readonly weight: CudaBuf };
}

/** y[m, n] = x[m, k] weight[n, k]^T with what follows. */
function project(
  device: CudaDevice,
  tiled: Tiled,
  weights: string,
  struct: Parameter[],
  [x, weight]: readonly [CudaBuf, CudaBuf],
  [m, n, k]: readonly [number, number, number],
  { squares, next }: Norms,
  early: boolean | "ends",
): void {
  const { kernel, columns, room, parts } = tiled;
  const size = clusterOf(tiled, k);
  const [stage, sums] = [(TILE_ROWS + columns) * TILE_K * 2, TILE_ROWS * (columns + 8) * 4];
  const fitting = Math.floor((room - 1024 - sums) / stage);
  const stages = Math.max(FEWEST, Math.min(fitting, k / TILE_K / size, MOST));
  const given = [
    ...struct,
    i64(stages),
    ...[squares, next?.weight, next?.normed, next?.squares].map((buf) => pointer(buf)),
    device.tiles(x, m, k, TILE_ROWS),
    device.tiles(weight, n, k, columns / parts, parts),
  ];
  const grid = [Math.ceil(n / columns) * size, Math.ceil(m / TILE_ROWS)] as const;
  device.launch(FILE, `${kernel}_${weights}`, grid, [THREADS], given, 1024 + stages * stage + sums, early, {
    ...ALL_SHARED,
    cluster: size,
  });
}

/** The three products of a step, each of what it multiplies; what else they read and what they write is named in `struct Step`. */
export function tileProducts(
  device: CudaDevice,
  struct: Parameter[],
  { batch, dModel, dInner, dState, dtRank, weightDtype }: MambaStepDescriptor,
) {
  const run = (
    tiled: Tiled,
    buffers: readonly [CudaBuf, CudaBuf],
    n: number,
    k: number,
    norms: Norms = {},
    early: boolean | "ends" = true,
  ): void => project(device, tiled, weightDtype, struct, buffers, [batch, n, k], norms, early);
  return {
    inProject: (normed: CudaBuf, weight: CudaBuf): void => run(IN, [normed, weight], 2 * dInner, dModel),
    /** The step's first kernel then, which ends the chain. */
    inProjectPrepared: ({ normed, squares }: PreparedNorm, weight: CudaBuf, early: false | "ends"): void =>
      run(IN, [normed, weight], 2 * dInner, dModel, { squares }, early),
    xProject: (u: CudaBuf, weight: CudaBuf): void => run(X, [u, weight], dtRank + 2 * dState, dInner),
    outProject: (y: CudaBuf, weight: CudaBuf, next: Norms["next"]): void =>
      run(OUT, [y, weight], dModel, dInner, next === undefined ? {} : { next }),
  };
}
