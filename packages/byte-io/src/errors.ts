const marker: unique symbol = Symbol.for("mamba-ts.error") as never;

/** Data that cannot be used; carries the marker that `isMambaError` of @mamba-ts/backend looks for. */
export class ByteDataError extends Error {
  readonly [marker] = true;
  readonly code = "data";
  constructor(
    message: string,
    readonly hint?: string,
    options?: ErrorOptions,
  ) {
    super(hint === undefined ? message : `${message}\nHint: ${hint}`, options);
    this.name = "ByteDataError";
  }
}
