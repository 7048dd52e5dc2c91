/**
 * Launches, gathered into few submits: one encoder with one compute pass stays open, the launches' parameters wait in host memory, and
 * a flush sends both. Bind groups are kept, as the pool hands out the same buffers step after step.
 */
import type { Faults } from "./faults.js";
import { PARAMS_BYTES, type Pipeline, type Pipelines } from "./pipelines.js";
import type { BufferPool, Physical } from "./pool.js";
import type { Device } from "./types.js";

/** Bytes of parameters in one batch. */
const UNIFORM_BYTES = 2 ** 16;
/** The device starts on a batch while the host makes the next one. */
const BATCH_LAUNCHES = 128;
/** A replayed launch takes the host no longer than the device: smaller batches let the device start sooner. */
const REPLAYED_LAUNCHES = 32;
/** After so many launches errors are asked after, whether somebody waits or not. */
const MOST_LAUNCHES = 1024;
const KEPT_BIND_GROUPS = 8192;

export interface Bound {
  readonly physical: Physical;
  /** In bytes. */
  readonly offset: number;
  readonly size: number;
}

export interface Launch {
  readonly pipeline: Pipeline;
  readonly bound: readonly Bound[];
  readonly params: Uint8Array;
  readonly grid: readonly [number, number, number];
}

export class Commands {
  #encoder: GPUCommandEncoder | undefined;
  #pass: GPUComputePassEncoder | undefined;
  #launched: Launch[] = [];
  #batch = 0;
  readonly #uniforms: GPUBuffer;
  readonly #staging = new Uint8Array(UNIFORM_BYTES);
  #staged = 0;
  readonly #groups = new Map<string, GPUBindGroup>();
  #recording: Launch[] | undefined;
  /** Launches since the device was opened. */
  launches = 0;
  submits = 0;

  constructor(
    readonly device: Device,
    readonly pipelines: Pipelines,
    readonly pool: BufferPool,
    readonly faults: Faults,
  ) {
    this.#uniforms = this.#uniformBuffer(UNIFORM_BYTES);
  }

  /** The number of the batch that is being made. */
  get batch(): number {
    return this.#batch;
  }

  launch(pipeline: Pipeline, bound: readonly Bound[], params: Uint8Array, grid: Launch["grid"]): void {
    this.faults.assertAlive();
    const launch = { pipeline, bound, params, grid };
    this.#recording?.push(launch);
    this.#run(launch);
  }

  #run(launch: Launch): void {
    const { pipeline, params, grid, bound } = launch;
    const group = this.#bindGroup(pipeline, bound);
    const pass = this.#open();
    const align = this.device.limits.minUniformBufferOffsetAlignment;
    this.#staging.set(params, this.#staged);
    pass.setPipeline(pipeline.gpu);
    pass.setBindGroup(0, group, [this.#staged]);
    pass.dispatchWorkgroups(grid[0], grid[1], grid[2]);
    for (const { physical } of bound) physical.batch = this.#batch;
    this.#staged += Math.ceil(pipeline.paramBytes / align) * align;
    this.#launched.push(launch);
    this.launches++;
    if (this.#launched.length >= BATCH_LAUNCHES || this.#staged + PARAMS_BYTES > UNIFORM_BYTES) this.flush();
  }

  /** Adds a copy to a staging buffer behind the launches so far. */
  copy(from: Physical, offset: number, to: GPUBuffer, toOffset: number, bytes: number): void {
    this.faults.assertAlive();
    const encoder = this.#encode();
    this.#pass?.end();
    this.#pass = undefined;
    encoder.copyBufferToBuffer(from.gpu, offset, to, toOffset, bytes);
    from.batch = this.#batch;
  }

  #encode(): GPUCommandEncoder {
    if (this.#encoder === undefined) {
      this.faults.open();
      this.#encoder = this.device.createCommandEncoder({ label: `batch ${this.#batch}` });
    }
    return this.#encoder;
  }

  #open(): GPUComputePassEncoder {
    return (this.#pass ??= this.#encode().beginComputePass());
  }

  /** Submits what has been gathered, and asks what there was to say against it. */
  flush(): void {
    this.#submit();
    const launched = this.#launched;
    this.faults.close((message) => suspects(launched, message));
    this.#launched = [];
  }

  #submit(): void {
    if (this.#encoder === undefined) return;
    this.#pass?.end();
    if (this.#staged > 0) this.device.queue.writeBuffer(this.#uniforms, 0, this.#staging, 0, this.#staged);
    this.device.queue.submit([this.#encoder.finish()]);
    this.#encoder = this.#pass = undefined;
    this.#staged = 0;
    this.#batch++;
    this.submits++;
    if (this.pool.trim(this.#batch) || this.#groups.size > KEPT_BIND_GROUPS) this.#groups.clear();
  }

  /** Keeps what is launched until the returned function is called, which gives a function that launches all of it again. */
  record(): () => { replay(): void; destroy(): void } {
    const outer = this.#recording;
    const recorded: Launch[] = (this.#recording = []);
    return () => {
      this.#recording = outer;
      outer?.push(...recorded);
      return this.#replayer(recorded);
    };
  }

  #replayer(recorded: readonly Launch[]) {
    const align = this.device.limits.minUniformBufferOffsetAlignment;
    const offsets: [number][] = [];
    let bytes = 0;
    for (const { pipeline } of recorded) {
      offsets.push([bytes]);
      bytes += Math.ceil(pipeline.paramBytes / align) * align;
    }
    const staging = new Uint8Array(bytes + PARAMS_BYTES);
    for (const [i, { params }] of recorded.entries()) staging.set(params, offsets[i]![0]);
    const uniforms = this.#uniformBuffer(staging.length);
    this.device.queue.writeBuffer(uniforms, 0, staging);
    this.#open();
    const groups = recorded.map(({ pipeline, bound }) => this.#makeGroup(pipeline, bound, uniforms));
    const used = new Set(recorded.flatMap(({ bound }) => bound.map(({ physical }) => physical)));
    return {
      replay: (): void => {
        this.faults.assertAlive();
        // The shortest way: the host's time for a launch is what limits small steps.
        for (let i = 0; i < recorded.length; i++) {
          const launch = recorded[i]!;
          const pass = this.#pass ?? this.#open();
          pass.setPipeline(launch.pipeline.gpu);
          pass.setBindGroup(0, groups[i]!, offsets[i]!);
          pass.dispatchWorkgroups(launch.grid[0], launch.grid[1], launch.grid[2]);
          this.#launched.push(launch);
          // Asking after errors takes the host as long as several launches: once is enough.
          if (i % REPLAYED_LAUNCHES === REPLAYED_LAUNCHES - 1) this.#submit();
        }
        if (this.#launched.length >= MOST_LAUNCHES) this.flush();
        for (const physical of used) physical.batch = this.#batch;
        this.launches += recorded.length;
      },
      destroy: (): void => {
        this.flush();
        uniforms.destroy();
      },
    };
  }

  #bindGroup(pipeline: Pipeline, bound: readonly Bound[]): GPUBindGroup {
    let key = `${pipeline.layoutId}`;
    for (const { physical, offset } of bound) key += offset === 0 ? ` ${physical.id}` : ` ${physical.id}@${offset}`;
    const kept = this.#groups.get(key);
    if (kept !== undefined) return kept;
    // An error of its making belongs to the batch.
    this.#open();
    const group = this.#makeGroup(pipeline, bound, this.#uniforms);
    this.#groups.set(key, group);
    return group;
  }

  #makeGroup(pipeline: Pipeline, bound: readonly Bound[], params: GPUBuffer): GPUBindGroup {
    const buffers = bound.map(({ physical, offset }) =>
      offset === 0 ? { buffer: physical.gpu } : { buffer: physical.gpu, offset },
    );
    return this.device.createBindGroup({
      label: `buffers of ${pipeline.name}`,
      layout: pipeline.layout,
      entries: [...buffers, { buffer: params, size: PARAMS_BYTES }].map((resource, binding) => ({ binding, resource })),
    });
  }

  #uniformBuffer(size: number): GPUBuffer {
    return this.device.createBuffer({
      label: "params",
      size: Math.max(PARAMS_BYTES, Math.ceil(size / 16) * 16),
      usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
    });
  }
}

/** Of a batch, the launches whose kernel a message names: at most a few. */
function suspects(launched: readonly Launch[], message: string): string {
  const named = launched.filter(({ pipeline }) => message.includes(pipeline.name));
  return (named.length > 0 ? named : launched.slice(-1)).slice(0, 4).map(describe).join("\n");
}

/** A launch for people: the kernel, its grid and its parameters, which hold the shapes. */
function describe({ pipeline, grid, params }: Launch): string {
  const view = new DataView(params.buffer, params.byteOffset, params.byteLength);
  const values = pipeline.fields.map(({ name, kind, at, lanes }) => {
    const lane = (i: number): number =>
      kind === "f"
        ? view.getFloat32(4 * (at + i), true)
        : kind === "i"
          ? view.getInt32(4 * (at + i), true)
          : view.getUint32(4 * (at + i), true);
    return `${name} ${Array.from({ length: lanes }, (_, i) => lane(i)).join(",")}`;
  });
  return `${pipeline.name} [${grid.join(", ")}]: ${values.join(", ")}`;
}
