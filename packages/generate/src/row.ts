import { StopFilter } from "./stop.js";
import type { EndReason, Tokenizer } from "./types.js";

/** One row's continuation: what has been said, and whether it goes on. */
export class Row {
  readonly #decoder;
  readonly #filter;
  reason: EndReason | undefined;
  constructor(
    tokenizer: Tokenizer,
    stops: readonly string[],
    readonly eosId: number | undefined,
  ) {
    this.#decoder = tokenizer.streamDecoder();
    this.#filter = new StopFilter(stops);
  }

  take(id: number, isLast: boolean): string {
    if (id === this.eosId) {
      this.reason = "eos";
      return this.#filter.push(this.#decoder.flush()) + this.#filter.flush();
    }
    let text = this.#filter.push(this.#decoder.push(id));
    if (this.#filter.stopped) this.reason = "stop";
    else if (isLast) {
      this.reason = "length";
      text += this.#filter.push(this.#decoder.flush()) + this.#filter.flush();
    }
    return text;
  }
}
