/** Reads from the device: staging buffers are used in turn; reads asked for together share one submit and, small ones, one buffer. */
import { DeviceLostError } from "@mamba-ts/backend";
import type { Commands } from "./commands.js";
import type { Physical } from "./pool.js";
import { sizeClass } from "./pool.js";

/** Staging buffers up to this size are kept. */
const KEPT_BYTES = 2 ** 20;
/** What reads up to this size share; each begins at a multiple of 8 bytes. */
const SHARED_BYTES = 4096;

interface Staging {
  readonly gpu: GPUBuffer;
  readonly size: number;
  used: number;
  /** All that was used, on the host. */
  readonly bytes: Promise<ArrayBuffer>;
}

/** How long a loss may take to be known after the first of its consequences. */
const LOSS_MS = 1000;

export class Readback {
  readonly #idle = new Map<number, GPUBuffer[]>();
  /** Takes further reads until it is submitted. */
  #open: Staging | undefined;
  #flush: Promise<void> | undefined;

  constructor(readonly commands: Commands) {}

  /** The bytes from `offset` on, after the work enqueued so far. Offset and length are multiples of 4. */
  async read(from: Physical, offset: number, bytes: number): Promise<ArrayBuffer> {
    const { commands } = this;
    if (bytes === 0) {
      commands.flush();
      await commands.faults.report();
      return new ArrayBuffer(0);
    }
    const staging = this.#stagingFor(bytes);
    const at = staging.used;
    staging.used += Math.ceil(bytes / 8) * 8;
    commands.copy(from, offset, staging.gpu, at, bytes);
    const all = await staging.bytes;
    return all.byteLength === bytes ? all : all.slice(at, at + bytes);
  }

  #stagingFor(bytes: number): Staging {
    const open = this.#open;
    if (open !== undefined && open.used + bytes <= open.size) return open;
    const size = sizeClass(Math.max(bytes, SHARED_BYTES));
    const gpu =
      this.#idle.get(size)?.pop() ??
      this.commands.device.createBuffer({
        label: "readback",
        size,
        usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
      });
    // Looked at only after the readers of this turn have taken their places.
    const staging: Staging = { gpu, size, used: 0, bytes: Promise.resolve().then(() => this.#map(staging)) };
    if (size === SHARED_BYTES) this.#open = staging;
    return staging;
  }

  async #map({ gpu, size, used }: Staging): Promise<ArrayBuffer> {
    const { commands } = this;
    if (this.#open?.gpu === gpu) this.#open = undefined;
    this.#flush ??= Promise.resolve().then(() => {
      this.#flush = undefined;
      commands.flush();
    });
    await this.#flush;
    const known = commands.faults.known();
    try {
      await gpu.mapAsync(GPUMapMode.READ, 0, used);
    } catch (cause) {
      await commands.faults.report();
      // A lost device breaks reads off before it says so itself.
      await commands.faults.lossWithin(LOSS_MS);
      throw new DeviceLostError("webgpu: the device was lost while it was read from", { cause });
    }
    const result = gpu.getMappedRange(0, used).slice(0);
    gpu.unmap();
    if (size <= KEPT_BYTES) {
      const idle = this.#idle.get(size);
      if (idle === undefined) this.#idle.set(size, [gpu]);
      else idle.push(gpu);
    } else gpu.destroy();
    await commands.faults.report(known);
    return result;
  }
}
