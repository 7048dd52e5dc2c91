/** Passes text on, but holds back what could still become one of the stop strings. */
export class StopFilter {
  #held = "";
  #stopped = false;
  constructor(readonly stops: readonly string[]) {}

  get stopped(): boolean {
    return this.#stopped;
  }

  /** The text that is certain to come before any stop string. */
  push(text: string): string {
    if (this.#stopped) return "";
    this.#held += text;
    const ends = this.stops.map((stop) => this.#held.indexOf(stop)).filter((i) => i >= 0);
    if (ends.length > 0) {
      this.#stopped = true;
      return this.#take(Math.min(...ends));
    }
    return this.#take(this.#held.length - Math.max(0, ...this.stops.map((stop) => overlap(this.#held, stop))));
  }

  /** What was held back, once no more text comes. */
  flush(): string {
    return this.#stopped ? "" : this.#take(this.#held.length);
  }

  #take(length: number): string {
    const text = this.#held.slice(0, length);
    this.#held = this.#held.slice(length);
    return text;
  }
}

/** Length of the longest end of `text` that begins `stop`. */
function overlap(text: string, stop: string): number {
  for (let n = Math.min(text.length, stop.length - 1); n > 0; n--) if (text.endsWith(stop.slice(0, n))) return n;
  return 0;
}
