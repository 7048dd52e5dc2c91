/** A piece of memory that operations take their small scratch from, one after the other, and that is empty when they end. */
export class Drawer {
  #at: number | undefined;
  #used = 0;
  #isOpen = false;

  /** @param make - the piece's address, asked for once; undefined if there is no memory. `prepare` sees what is handed out. */
  constructor(
    readonly bytes: number,
    readonly make: () => number | undefined,
    readonly prepare: (at: number, bytes: number) => void,
  ) {}

  /** For one operation; undefined while another has it. */
  open(): this | undefined {
    if (this.#isOpen) return undefined;
    this.#isOpen = true;
    this.#used = 0;
    return this;
  }

  close(): void {
    this.#isOpen = false;
  }

  /** An address, or undefined if there is no room for so much. */
  take(bytes: number): number | undefined {
    const start = this.#used;
    if (start + bytes > this.bytes) return undefined;
    this.#at ??= this.make();
    if (this.#at === undefined) return undefined;
    this.#used = Math.ceil((start + bytes) / 64) * 64;
    this.prepare(this.#at + start, bytes);
    return this.#at + start;
  }
}
