/** Reads from the device: staging buffers are used in turn, and reads asked for together share one submit. */
import { DeviceLostError } from "@mamba-ts/backend";
import type { Commands } from "./commands.js";
import type { Physical } from "./pool.js";
import { sizeClass } from "./pool.js";

/** Staging buffers up to this size are kept. */
const KEPT_BYTES = 2 ** 20;

/** How long a loss may take to be known after the first of its consequences. */
const LOSS_MS = 1000;

export class Readback {
  readonly #idle = new Map<number, GPUBuffer[]>();
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
    const size = sizeClass(bytes);
    const idle = this.#idle.get(size) ?? [];
    this.#idle.set(size, idle);
    const staging =
      idle.pop() ??
      commands.device.createBuffer({
        label: "readback",
        size,
        usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
      });
    commands.copy(from, offset, staging, bytes);
    this.#flush ??= Promise.resolve().then(() => {
      this.#flush = undefined;
      commands.flush();
    });
    await this.#flush;
    try {
      await staging.mapAsync(GPUMapMode.READ, 0, bytes);
    } catch (cause) {
      await commands.faults.report();
      // A lost device breaks reads off before it says so itself.
      await commands.faults.lossWithin(LOSS_MS);
      throw new DeviceLostError("webgpu: the device was lost while it was read from", { cause });
    }
    const result = staging.getMappedRange(0, bytes).slice(0);
    staging.unmap();
    if (size <= KEPT_BYTES) idle.push(staging);
    else staging.destroy();
    await commands.faults.report();
    return result;
  }
}
