import type { AttentionDescriptor, FusedOps, Operand } from "@mamba-ts/backend";
import type { CudaDevice } from "../device.js";
import { fill } from "../elementwise.js";
import { f64, i64, type Parameter, pointer } from "../launch.js";
import type { CudaBuf } from "../memory.js";

type Op = NonNullable<FusedOps["attention"]>;
type Args = Parameters<Op["forward"]>[0];
const FILE = "attention";
/** Rows and keys of a tile, and bytes of shared memory: three tiles with padded rows. */
const TILE = 64;
const SHARED = 3 * TILE * (TILE + 4) * 4;
/** Blocks of threads that keep every multiprocessor busy: fewer, and the keys are split. */
const BLOCKS_EACH = 2;

/** `struct Attention` of the kernels. */
function struct(device: CudaDevice, args: Args, d: AttentionDescriptor, splits: number): Parameter[] {
  const at = (x: Operand | undefined): Parameter => pointer(x === undefined ? undefined : device.own(x));
  return [
    i64([d.batch, d.queries, d.keys, d.heads, d.kvHeads, d.headDim, Number(d.causal), splits]),
    ...[args.querySegments, args.keySegments].map(at),
    f64(d.scale),
  ];
}

/** Slices of headDim that a kernel keeps in registers: 1, 2 or 4. */
function slicesOf({ headDim }: AttentionDescriptor): number {
  return headDim <= TILE ? 1 : headDim <= 2 * TILE ? 2 : 4;
}

function isEmpty({ batch, queries, keys, heads, headDim }: AttentionDescriptor): boolean {
  return batch * queries * keys * heads * headDim === 0;
}

function forward(device: CudaDevice, args: Args, d: AttentionDescriptor): { y: CudaBuf; logSums: CudaBuf } {
  const { batch, queries, keys, heads, kvHeads, headDim, dtype } = d;
  const rows = queries * (heads / kvHeads);
  const y = device.alloc(batch * queries * heads * headDim, dtype);
  const logSums = device.alloc(batch * kvHeads * rows, "float32");
  const tiles = Math.ceil(rows / TILE);
  const wanted = Math.ceil((BLOCKS_EACH * device.info.multiprocessors) / (tiles * kvHeads * batch));
  const splits = Math.max(1, Math.min(wanted, Math.ceil(keys / TILE)));
  const parts = splits > 1 ? device.alloc(splits * batch * kvHeads * rows * (headDim + 2), "float32") : undefined;
  const inputs = [args.q, args.k, args.v].map((x) => device.own(x));
  const parameters = [...inputs, y, logSums, pointer(parts), ...struct(device, args, d, splits)];
  const grid = [tiles * splits, kvHeads, batch] as const;
  device.launch(FILE, `attention_forward_${dtype}_${slicesOf(d)}`, grid, [256], parameters, SHARED);
  if (parts !== undefined) {
    const joined = [parts, y, logSums, ...struct(device, args, d, splits)];
    device.launch(FILE, `attention_combine_${dtype}`, [rows, kvHeads, batch], [64], joined);
    device.memory.free(parts);
  }
  return { y, logSums };
}

/** Kernels of /kernels/attention: headDim to 256, keys split among blocks where there are few queries. */
export function attention(device: CudaDevice): Op {
  return {
    supports: ({ dtype, headDim, batch, kvHeads }) =>
      dtype !== "float64" && headDim <= 4 * TILE && batch < 65536 && kvHeads < 65536,
    forward(args, d, { save }) {
      if (isEmpty(d)) {
        const shape = [d.batch, d.queries, d.heads, d.headDim];
        return { outputs: { y: fill(device, shape, 0, d.dtype) }, saved: [] };
      }
      const { y, logSums } = forward(device, args, d);
      if (save) return { outputs: { y }, saved: [logSums] };
      device.memory.free(logSums);
      return { outputs: { y }, saved: [] };
    },
    backward(args, d, { y }, saved, { y: gy }, needs) {
      const { batch, queries, keys, heads, kvHeads, headDim, dtype } = d;
      if (isEmpty(d)) {
        const zeros = (x: Operand) => fill(device, [...x.shape], 0, dtype);
        return Object.fromEntries(
          (["q", "k", "v"] as const).filter((name) => needs.has(name)).map((name) => [name, zeros(args[name])]),
        );
      }
      const rows = queries * (heads / kvHeads);
      const logSums = device.own(saved[0]!);
      const sums = device.alloc(batch * kvHeads * rows, "float32");
      const up = device.own(gy!);
      const shape = struct(device, args, d, 1);
      const grid = (tiles: number) => [tiles, kvHeads, batch] as const;
      device.launch(
        FILE,
        `attention_dots_${dtype}`,
        grid(Math.ceil(rows / 8)),
        [256],
        [up, device.own(y!), sums, ...shape],
      );
      const inputs = [...[args.q, args.k, args.v].map((x) => device.own(x)), up, logSums, sums];
      const result: { q?: CudaBuf; k?: CudaBuf; v?: CudaBuf } = {};
      const run = (kernel: string, count: number, outputs: CudaBuf[]): void =>
        device.launch(
          FILE,
          `attention_${kernel}_${dtype}_${slicesOf(d)}`,
          grid(Math.ceil(count / TILE)),
          [256],
          [...inputs, ...outputs, ...shape],
          SHARED,
        );
      if (needs.has("q")) {
        result.q = device.alloc(batch * queries * heads * headDim, dtype);
        run("queries", rows, [result.q]);
      }
      if (needs.has("k") || needs.has("v")) {
        const [gk, gv] = [0, 0].map(() => device.alloc(batch * keys * kvHeads * headDim, dtype));
        run("keys", keys, [gk!, gv!]);
        if (needs.has("k")) result.k = gk!;
        else device.memory.free(gk!);
        if (needs.has("v")) result.v = gv!;
        else device.memory.free(gv!);
      }
      device.memory.free(sums);
      return result;
    },
  };
}
