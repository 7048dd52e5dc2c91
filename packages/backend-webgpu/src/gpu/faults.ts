/** What goes wrong on the device: WebGPU reports it later, and the next await of a caller throws it. */
import { BackendError, DeviceLostError, type MambaError, OutOfMemoryError } from "@mamba-ts/backend";
import type { Device } from "./types.js";

export class Faults {
  #pending: MambaError[] = [];
  #lost: DeviceLostError | undefined;
  readonly #scopes = new Set<Promise<void>>();
  #isOpen = false;

  constructor(readonly device: Device) {
    device.lost.then(({ reason, message }) => {
      this.#lost ??= new DeviceLostError(`webgpu: the device was lost (${reason ?? "unknown"}): ${message}`, {
        hint: "make a new backend and load the model into it again",
      });
    });
  }

  /** Waits for the news that the device is gone, and throws it; returns if none comes. */
  async lossWithin(milliseconds: number): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const patience = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, milliseconds);
    });
    await Promise.race([this.device.lost, patience]);
    clearTimeout(timer);
    this.assertAlive();
  }

  /** Throws if the device is gone: no call can do anything then. */
  assertAlive(): void {
    if (this.#lost !== undefined) throw this.#lost;
  }

  /** Errors from here on belong together, until `close`. */
  open(): void {
    if (this.#isOpen) return;
    this.#isOpen = true;
    this.device.pushErrorScope("validation");
    this.device.pushErrorScope("out-of-memory");
  }

  /** @param launches - of those since `open`, the ones a message is about, with their shapes */
  close(launches: (message: string) => string): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    const memory = this.device.popErrorScope();
    const validation = this.device.popErrorScope();
    const settled = Promise.all([memory, validation])
      .then(([outOfMemory, invalid]) => {
        if (outOfMemory !== null)
          this.#pending.push(
            new OutOfMemoryError(`webgpu: out of memory: ${outOfMemory.message}`, {
              hint: "use a smaller batch or shorter chunks",
            }),
          );
        if (invalid !== null)
          this.#pending.push(new BackendError(`webgpu: ${invalid.message}\nin ${launches(invalid.message)}`));
      })
      // The scopes of a lost device reject; the loss itself is what is reported.
      .catch(() => {})
      .finally(() => this.#scopes.delete(settled));
    this.#scopes.add(settled);
  }

  /** Resolves when it is known how the work submitted so far was taken. */
  known(): Promise<unknown> {
    return Promise.all(this.#scopes);
  }

  /** Throws the first fault that nobody has seen yet, once `known`: what was submitted later is not waited for. */
  async report(known: Promise<unknown> = this.known()): Promise<void> {
    await known;
    this.assertAlive();
    const [first] = this.#pending;
    this.#pending = [];
    if (first !== undefined) throw first;
  }
}
