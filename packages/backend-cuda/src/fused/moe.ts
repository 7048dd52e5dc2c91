import type { Buf, FusedOps, MoeDescriptor, Operand } from "@mamba-ts/backend";
import type { CudaDevice } from "../device.js";
import { cast, fill } from "../elementwise.js";
import { i32, i64, type Parameter, pointer } from "../launch.js";
import type { CudaBuf } from "../memory.js";

type Op = NonNullable<FusedOps["moe"]>;
type Args = Parameters<Op["forward"]>[0];
type Name = "x" | "weights" | "gate" | "up" | "down";
const FILE = "moe";
/** Rows of a block, which share an expert. */
const TILE = 64;
const kinds = { relu: 0, silu: 1, gelu: 2 } as const;

/** Rows that can be needed at most: every expert's last block is filled up. */
function rowsOf({ tokens, topK, experts }: MoeDescriptor): number {
  return (Math.ceil((tokens * topK) / TILE) + experts) * TILE;
}

/** `struct Plan` of the kernels, in one buffer. */
function planStruct(plan: CudaBuf, d: MoeDescriptor): Parameter[] {
  const rows = rowsOf(d);
  const blocks = rows / TILE;
  const starts = [0, d.experts, d.experts + blocks, d.experts + blocks + rows];
  return [i64([d.tokens, d.topK, d.experts, blocks]), ...starts.map((at) => pointer(plan, at))];
}

/** Which choice sits in which row. */
function layOut(device: CudaDevice, indices: Operand, d: MoeDescriptor): CudaBuf {
  const rows = rowsOf(d);
  const plan = device.alloc(d.experts + rows / TILE + rows + d.tokens * d.topK, "int32");
  device.native.set(plan.pointer, 0xff, plan.byteLength);
  const parameters = [device.own(indices), ...planStruct(plan, d)];
  device.launch(FILE, "moe_count", [d.experts], [256], parameters);
  device.launch(FILE, "moe_place", [d.experts], [256], parameters);
  return plan;
}

interface RowsOptions {
  readonly turned?: boolean;
  readonly gathered?: boolean;
  readonly accumulate?: boolean;
}

/** One call's expert products, on the rows of a plan. */
class Experts {
  readonly #made: Buf[] = [];
  readonly #plan: Parameter[];
  readonly rows: number;
  constructor(
    readonly device: CudaDevice,
    readonly args: Args,
    readonly d: MoeDescriptor,
    readonly plan: CudaBuf,
  ) {
    this.rows = rowsOf(d);
    this.#plan = planStruct(plan, d);
  }

  /** Freed by `dispose`. */
  scratch(buf: CudaBuf): CudaBuf {
    this.#made.push(buf);
    return buf;
  }

  /** An argument in the dtype of x. */
  own(x: Operand): CudaBuf {
    return x.dtype === this.d.dtype ? this.device.own(x) : this.scratch(cast(this.device, x, this.d.dtype) as CudaBuf);
  }

  launch(kernel: string, grid: readonly [number, number?, number?], parameters: readonly Parameter[]): void {
    this.device.launch(FILE, `moe_${kernel}_${this.d.dtype}`, grid, [256], [...parameters, ...this.#plan]);
  }

  /** y[row] = a[row] W^T, or a[row] W when `turned`; y of another dtype than x's is float32. */
  products(a: CudaBuf, weight: CudaBuf, y: CudaBuf, n: number, k: number, options: RowsOptions): void {
    const kernel = y.dtype === this.d.dtype ? "rows" : "wide_rows";
    const flags = [options.turned, options.gathered, options.accumulate].map((flag) => i32(flag ?? false));
    this.launch(kernel, [this.rows / TILE, Math.ceil(n / TILE)], [a, weight, y, i64([n, k]), ...flags]);
  }

  /** Gradient [experts, m, n] of a weight: the sum of a[row]^T b[row]. */
  weightGradient(a: CudaBuf, b: CudaBuf, m: number, n: number, aGathered: boolean, bGathered: boolean): CudaBuf {
    const g = this.device.alloc(this.d.experts * m * n, "float32");
    const grid = [Math.ceil(m / TILE), Math.ceil(n / TILE), this.d.experts] as const;
    this.launch("weights", grid, [a, b, g, i64([m, n]), i32(aGathered), i32(bGathered)]);
    return g;
  }

  alloc(columns: number, dtype = this.d.dtype): CudaBuf {
    return this.device.alloc(this.rows * columns, dtype);
  }

  dispose(): void {
    for (const buf of this.#made) this.device.memory.free(buf);
  }
}

function backward(
  device: CudaDevice,
  args: Args,
  d: MoeDescriptor,
  [plan, up, gate]: readonly (CudaBuf | undefined)[],
  gy: CudaBuf,
  needs: ReadonlySet<string>,
): { [K in Name]?: Buf } {
  const { tokens, topK, width, hidden } = d;
  const run = new Experts(device, args, d, plan!);
  const g = run.scratch(run.alloc(hidden, "float32"));
  run.products(gy, run.own(args.down), g, hidden, width, { turned: true, gathered: true });
  const gUp = run.scratch(run.alloc(hidden));
  const gGate = gate === undefined ? undefined : run.scratch(run.alloc(hidden));
  const weighted = run.scratch(run.alloc(hidden));
  // A choice that was dropped has no row.
  const gScale = fill(device, [tokens, topK], 0, d.dtype) as CudaBuf;
  const inputs = [g, pointer(gate), up!, run.own(args.weights), gScale, pointer(gGate), gUp, weighted];
  run.launch("gradient", [run.rows], [...inputs, i64(hidden), i32(kinds[d.activation])]);
  const result: { [K in Name]?: Buf } = {};
  if (needs.has("weights")) result.weights = gScale;
  else run.scratch(gScale);
  if (needs.has("down")) result.down = run.weightGradient(gy, weighted, width, hidden, true, false);
  const x = device.own(args.x);
  if (needs.has("up")) result.up = run.weightGradient(gUp, x, hidden, width, false, true);
  if (needs.has("gate") && gGate !== undefined) result.gate = run.weightGradient(gGate, x, hidden, width, false, true);
  if (needs.has("x")) {
    const rows = run.scratch(run.alloc(width, "float32"));
    run.products(gUp, run.own(args.up), rows, width, hidden, { turned: true });
    if (gGate !== undefined)
      run.products(gGate, run.own(args.gate!), rows, width, hidden, { turned: true, accumulate: true });
    const gx = device.alloc(tokens * width, d.dtype);
    run.launch("combine", [tokens], [rows, pointer(undefined), gx, i64(width)]);
    result.x = gx;
  }
  run.dispose();
  return result;
}

/** Kernels of /kernels/moe: rows sorted by expert, nothing read back. */
export function moe(device: CudaDevice): Op {
  return {
    supports: ({ dtype, experts, tokens, topK, width, hidden }) =>
      dtype !== "float64" && experts > 0 && experts < 65536 && tokens * topK * width * hidden > 0,
    forward(args, d, { save }) {
      const { tokens, width, hidden } = d;
      const plan = layOut(device, args.indices, d);
      const run = new Experts(device, args, d, plan);
      const x = device.own(args.x);
      const up = run.alloc(hidden);
      run.products(x, run.own(args.up), up, hidden, width, { gathered: true });
      const gate = args.gate === undefined ? undefined : run.alloc(hidden);
      if (gate !== undefined) run.products(x, run.own(args.gate!), gate, hidden, width, { gathered: true });
      const inner = run.scratch(run.alloc(hidden));
      const count = run.rows * hidden;
      const parameters = [pointer(gate), up, inner, i64(count), i32(kinds[d.activation])];
      device.each(FILE, `moe_inner_${d.dtype}`, count, parameters);
      const rows = run.scratch(run.alloc(width, "float32"));
      run.products(inner, run.own(args.down), rows, width, hidden, {});
      const y = device.alloc(tokens * width, d.dtype);
      run.launch("combine", [tokens], [rows, run.own(args.weights), y, i64(width)]);
      run.dispose();
      const kept = [plan, up, ...(gate === undefined ? [] : [gate])];
      if (save) return { outputs: { y }, saved: kept };
      for (const buf of kept) device.memory.free(buf);
      return { outputs: { y }, saved: [] };
    },
    backward: (args, d, _outputs, saved, gradOutputs, needs) =>
      backward(
        device,
        args,
        d,
        saved.map((buf) => device.own(buf)),
        device.own(gradOutputs.y!),
        needs,
      ),
  };
}
