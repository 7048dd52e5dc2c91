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

/** Throws SsmError unless all sizes are integers of at least 0. */
export function expectSizes(op: string, sizes: { readonly [name: string]: number }): void {
  for (const [name, n] of Object.entries(sizes))
    if (!Number.isInteger(n) || n < 0)
      throw new SsmError("shape", `${op}: ${name} is ${n}, not an integer of at least 0`);
}

/** Throws SsmError unless an array, if given, has as many elements as its shape says. */
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
