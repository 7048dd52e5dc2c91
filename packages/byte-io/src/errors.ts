const marker: unique symbol = Symbol.for("mamba-ts.error") as never;

export interface ByteDataErrorOptions {
  readonly cause?: unknown;
  /** `data` by default: what was read cannot be used. `invalid-argument`: what was asked for makes no sense. */
  readonly code?: "data" | "invalid-argument";
}

/** Data that cannot be used, or a wrong argument; carries the marker that `isMambaError` of @mamba-ts/backend looks for. */
export class ByteDataError extends Error {
  readonly [marker] = true;
  readonly code: "data" | "invalid-argument";
  constructor(
    message: string,
    readonly hint?: string,
    { cause, code = "data" }: ByteDataErrorOptions = {},
  ) {
    super(hint === undefined ? message : `${message}\nHint: ${hint}`, cause === undefined ? undefined : { cause });
    this.name = "ByteDataError";
    this.code = code;
  }
}

/** Throws ByteDataError unless `n` is an integer of at least `least` that is represented exactly. */
export function expectInteger(what: string, n: number, least: number): void {
  if (!Number.isSafeInteger(n) || n < least)
    throw new ByteDataError(`${what} is ${n}, not an integer of at least ${least}`, undefined, {
      code: "invalid-argument",
    });
}
