const marker: unique symbol = Symbol.for("mamba-ts.error") as never;

/** A wrong argument: the message names it, with shapes. Carries the marker that `isMambaError` of @mamba-ts/backend looks for. */
export class SsmError extends Error {
  readonly [marker] = true;
  constructor(
    readonly code: "shape" | "invalid-argument",
    message: string,
    readonly hint?: string,
  ) {
    super(hint === undefined ? message : `${message}\nHint: ${hint}`);
    this.name = "SsmError";
  }
}

/** Throws SsmError unless an array has as many elements as its shape says. */
export function expectLength(
  op: string,
  name: string,
  data: ArrayLike<number> | undefined,
  shape: readonly number[],
): void {
  if (data === undefined) return;
  const want = shape.reduce((a, b) => a * b, 1);
  if (data.length !== want)
    throw new SsmError("shape", `${op}: ${name} has ${data.length} elements, not [${shape.join(", ")}]`);
}
