/** Times every launch of a device by timestamps: each dispatch gets a compute pass of its own while a profile is taken. */

const QUERIES = 4096;

/** Nanoseconds and launches, by the pipelines' labels. */
export type Profile = ReadonlyMap<string, { readonly launches: number; readonly nanoseconds: number }>;

export class Profiler {
  readonly #set: GPUQuerySet;
  readonly #resolved: GPUBuffer;
  readonly #read: GPUBuffer;
  #labels: string[] = [];
  #isOn = false;

  constructor(readonly device: GPUDevice) {
    this.#set = device.createQuerySet({ type: "timestamp", count: QUERIES });
    const size = 8 * QUERIES;
    this.#resolved = device.createBuffer({ size, usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC });
    this.#read = device.createBuffer({ size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
    const create = device.createCommandEncoder.bind(device);
    device.createCommandEncoder = (descriptor) => {
      const encoder = create(descriptor);
      return this.#isOn ? this.#watched(encoder) : encoder;
    };
  }

  #watched(encoder: GPUCommandEncoder): GPUCommandEncoder {
    const watched = {
      beginComputePass: () => {
        let pipeline: GPUComputePipeline;
        const groups = new Map<number, [GPUBindGroup, readonly number[] | undefined]>();
        return {
          setPipeline: (p: GPUComputePipeline) => {
            pipeline = p;
          },
          setBindGroup: (i: number, group: GPUBindGroup, offsets?: readonly number[]) => {
            groups.set(i, [group, offsets]);
          },
          dispatchWorkgroups: (x: number, y: number, z: number) => {
            const at = 2 * this.#labels.length;
            const timestampWrites =
              at + 2 <= QUERIES
                ? { querySet: this.#set, beginningOfPassWriteIndex: at, endOfPassWriteIndex: at + 1 }
                : undefined;
            if (timestampWrites !== undefined) this.#labels.push(`${pipeline.label} [${x},${y},${z}]`);
            const pass = encoder.beginComputePass(timestampWrites === undefined ? {} : { timestampWrites });
            pass.setPipeline(pipeline);
            for (const [i, [group, offsets]] of groups) pass.setBindGroup(i, group, offsets ?? []);
            pass.dispatchWorkgroups(x, y, z);
            pass.end();
          },
          end: () => {},
        };
      },
      copyBufferToBuffer: encoder.copyBufferToBuffer.bind(encoder),
      finish: () => encoder.finish(),
    };
    return watched as unknown as GPUCommandEncoder;
  }

  /** @param run - enqueues work and flushes all of it */
  async profile(run: () => void | Promise<void>, key: (label: string) => string = (label) => label): Promise<Profile> {
    this.#labels = [];
    this.#isOn = true;
    await run();
    this.#isOn = false;
    const count = 2 * this.#labels.length;
    const encoder = this.device.createCommandEncoder();
    encoder.resolveQuerySet(this.#set, 0, count, this.#resolved, 0);
    encoder.copyBufferToBuffer(this.#resolved, 0, this.#read, 0, 8 * count);
    this.device.queue.submit([encoder.finish()]);
    await this.#read.mapAsync(GPUMapMode.READ, 0, 8 * count);
    const times = new BigUint64Array(this.#read.getMappedRange(0, 8 * count).slice(0));
    this.#read.unmap();
    const sums = new Map<string, { launches: number; nanoseconds: number }>();
    for (const [i, label] of this.#labels.entries()) {
      const entry = sums.get(key(label)) ?? { launches: 0, nanoseconds: 0 };
      entry.launches++;
      entry.nanoseconds += Number(times[2 * i + 1]! - times[2 * i]!);
      sums.set(key(label), entry);
    }
    return sums;
  }
}

export function formatProfile(profile: Profile, most = 40): string {
  const rows = [...profile].sort(([, a], [, b]) => b.nanoseconds - a.nanoseconds);
  const total = rows.reduce((sum, [, { nanoseconds }]) => sum + nanoseconds, 0);
  return [
    `  ${(total / 1e6).toFixed(3)} ms in ${rows.reduce((n, [, { launches }]) => n + launches, 0)} launches`,
    ...rows
      .slice(0, most)
      .map(
        ([label, { launches, nanoseconds }]) =>
          `  ${(nanoseconds / 1e6).toFixed(3).padStart(9)} ms ${String(launches).padStart(4)} x ${(nanoseconds / 1e3 / launches).toFixed(1).padStart(8)} us  ${label}`,
      ),
  ].join("\n");
}
