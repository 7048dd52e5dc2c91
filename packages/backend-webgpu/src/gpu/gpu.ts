/** One open device: its pool, its pipelines, its queue; and `run`, through which every kernel is launched. */
import { type AdapterOptions, openDevice } from "./adapter.js";
import { type Bound, Commands } from "./commands.js";
import { Faults } from "./faults.js";
import {
  type BindingName,
  type Constants,
  type KernelName,
  type ParamName,
  type PendingPipeline,
  type Pipeline,
  Pipelines,
} from "./pipelines.js";
import { BufferPool, type Physical } from "./pool.js";
import { Readback } from "./readback.js";
import type { Device } from "./types.js";

/** Most workgroups in one dimension of a grid, by WebGPU's default. */
const MAX_GROUPS = 65_535;

/** What a kernel is given for a binding: a buffer's handle, or anything that lies like one. */
export interface Located {
  readonly physical: Physical;
  readonly offset: number;
}

export interface LaunchOptions<K extends KernelName> {
  readonly constants?: Constants<K>;
  /** The build whose operands are f16: only where `hasF16`. */
  readonly f16?: boolean;
  /** Threads in all, 256 to a workgroup: for kernels that go by `flat_group`. */
  readonly threads?: number;
  /** Workgroups in all, for kernels that go by `flat_group`. */
  readonly groups?: number;
  /** Workgroups in each dimension. */
  readonly grid?: readonly [number, number, number];
}

type ParamValue = number | readonly [number, number, number, number];

export class Gpu {
  readonly pool: BufferPool;
  readonly pipelines: Pipelines;
  readonly commands: Commands;
  readonly readback: Readback;
  /** Stand in for operands that are absent: a buffer that is written to may not be bound a second time. */
  readonly #nothing: Located;
  readonly #sink: Located;
  readonly #maxBindings: number;
  /** While `needs` looks: the pipelines that launches ask for. */
  #needed: Set<PendingPipeline | undefined> | undefined;

  private constructor(
    readonly device: Device,
    readonly name: string,
    readonly features: ReadonlySet<string>,
    subgroupSize: number | undefined,
    readonly faults: Faults,
  ) {
    this.#maxBindings = device.limits.maxStorageBuffersPerShaderStage;
    this.pool = new BufferPool(device, this.maxBufferBytes);
    this.pipelines = new Pipelines(device, subgroupSize);
    this.commands = new Commands(device, this.pipelines, this.pool, faults);
    this.readback = new Readback(this.commands);
    this.#nothing = { physical: this.pool.take(256), offset: 0 };
    this.#sink = { physical: this.pool.take(256), offset: 0 };
  }

  static async open(options: AdapterOptions): Promise<Gpu> {
    const { device, name, features, subgroupSize } = await openDevice(options);
    return new Gpu(device, name, features, subgroupSize, new Faults(device));
  }

  /** Whether kernels may compute with f16 operands. */
  get hasF16(): boolean {
    return this.features.has("shader-f16");
  }

  /** Whether kernels may use the matrix units for f16: an experiment of Dawn's, and only for those who enable it. */
  get hasMatrices(): boolean {
    return this.features.has("chromium-experimental-subgroup-matrix");
  }

  get maxBufferBytes(): number {
    const { maxBufferSize, maxStorageBufferBindingSize } = this.device.limits;
    return Math.floor(Math.min(maxBufferSize, maxStorageBufferBindingSize) / 256) * 256;
  }

  /** Storage buffers that one kernel may bind: 8 on the least adapter. */
  get maxBindings(): number {
    return this.#maxBindings;
  }

  /** Launches a kernel. A grid without workgroups launches nothing. */
  run<K extends KernelName>(
    name: K,
    buffers: { readonly [B in BindingName<K>]: Located | undefined },
    params: { readonly [P in ParamName<K>]: ParamValue },
    { constants = {} as Constants<K>, f16 = false, threads, groups, grid }: LaunchOptions<K>,
  ): void {
    const size = grid ?? spread(groups ?? Math.ceil(threads! / 256));
    if (size[0] === 0 || size[1] === 0 || size[2] === 0) return;
    const given = buffers as { readonly [name: string]: Located | undefined };
    const operands = this.pipelines.bindingsOf(name);
    // A kernel with more operands than may be bound goes without those that are absent.
    const without =
      operands.length <= this.#maxBindings ? [] : operands.map((o) => o.name).filter((o) => given[o] === undefined);
    if (this.#needed !== undefined) {
      this.#needed.add(this.pipelines.needs(name, constants, { f16, without }));
      return;
    }
    const pipeline = this.pipelines.get(name, constants, { f16, without });
    const bound = pipeline.bindings.map((binding): Bound => {
      const { physical, offset } = given[binding.name] ?? (binding.writes ? this.#sink : this.#nothing);
      return { physical, offset, size: physical.bytes - offset };
    });
    this.commands.launch(pipeline, bound, pack(pipeline, params), size);
  }

  /** The pipelines that `fn` launches and that are not there yet; nothing is launched. */
  needs(fn: () => void): PendingPipeline[] {
    const outer = this.#needed;
    const needed = (this.#needed = new Set());
    try {
      fn();
    } finally {
      this.#needed = outer;
    }
    return [...needed].filter((pending) => pending !== undefined);
  }

  dispose(): void {
    this.commands.flush();
    this.device.destroy();
  }
}

/** So many workgroups over two dimensions: the first few of the last row may be too many, which kernels check. */
function spread(groups: number): readonly [number, number, number] {
  if (groups <= MAX_GROUPS) return [groups, groups === 0 ? 0 : 1, 1];
  const y = Math.ceil(groups / MAX_GROUPS);
  return [Math.ceil(groups / y), y, 1];
}

function pack(pipeline: Pipeline, params: { readonly [name: string]: ParamValue }): Uint8Array {
  const bytes = new Uint8Array(pipeline.paramBytes);
  const [u, i, f] = [new Uint32Array(bytes.buffer), new Int32Array(bytes.buffer), new Float32Array(bytes.buffer)];
  for (const { name, kind, at, lanes } of pipeline.fields) {
    const value = params[name]!;
    const words = kind === "u" ? u : kind === "i" ? i : f;
    if (typeof value === "number") words[at] = value;
    else for (let lane = 0; lane < lanes; lane++) words[at + lane] = value[lane]!;
  }
  return bytes;
}
