/** Keeps memory that is given back from being handed out again, until it is released. */
export class Pin {
  readonly #kept: (readonly [at: number, bytes: number])[] = [];
  #isReleased = false;

  constructor(readonly give: (at: number, bytes: number) => void) {}

  /** Gives memory back, now or when the pin is released. */
  later(at: number, bytes: number): void {
    if (this.#isReleased) this.give(at, bytes);
    else this.#kept.push([at, bytes]);
  }

  release(): void {
    this.#isReleased = true;
    for (const [at, bytes] of this.#kept.splice(0)) this.give(at, bytes);
  }
}
