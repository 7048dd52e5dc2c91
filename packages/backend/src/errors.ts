const marker = Symbol.for("mamba-ts.error");

/** Machine-readable kinds of failure; stable across versions, so that callers may switch on them. */
export type ErrorCode =
  | "shape"
  | "dtype"
  | "backend-mismatch"
  | "disposed"
  | "unsupported"
  | "invalid-argument"
  | "config"
  | "checkpoint"
  | "download"
  | "data"
  | "non-finite"
  | "out-of-memory"
  | "device-lost"
  | "backend";

export interface ErrorOptions {
  /** One sentence that says what would help; printed on a line of its own. */
  readonly hint?: string | undefined;
  readonly cause?: unknown;
}

/**
 * Base of every error this project throws. The message says what differs, with names and shapes; `hint` says what would help.
 * Use `isMambaError` rather than `instanceof`: two copies of a package may be installed side by side.
 */
export class MambaError extends Error {
  readonly [marker] = true;
  readonly hint: string | undefined;
  constructor(
    readonly code: ErrorCode,
    message: string,
    { hint, cause }: ErrorOptions = {},
  ) {
    super(hint === undefined ? message : `${message}\nHint: ${hint}`, cause === undefined ? undefined : { cause });
    this.name = new.target.name;
    this.hint = hint;
  }
}

/** True for errors of this project, of the given code if one is named; works across duplicate installations. */
export function isMambaError(error: unknown, code?: ErrorCode): error is MambaError {
  return (
    typeof error === "object" &&
    error !== null &&
    marker in error &&
    (code === undefined || (error as MambaError).code === code)
  );
}

/** Shapes that do not fit together. */
export class ShapeError extends MambaError {
  constructor(message: string, options?: ErrorOptions) {
    super("shape", message, options);
  }
}

/** An element type that an operation or a backend does not take. */
export class DTypeError extends MambaError {
  constructor(message: string, options?: ErrorOptions) {
    super("dtype", message, options);
  }
}

/** Tensors of two backends met in one operation. */
export class BackendMismatchError extends MambaError {
  constructor(message: string, options?: ErrorOptions) {
    super("backend-mismatch", message, options);
  }
}

/** A tensor, model or backend was used after it had been freed. */
export class DisposedError extends MambaError {
  constructor(message: string, options?: ErrorOptions) {
    super("disposed", message, options);
  }
}

/** Something this version, backend or machine cannot do; the message names it, the hint names the way round. */
export class UnsupportedError extends MambaError {
  constructor(message: string, options?: ErrorOptions) {
    super("unsupported", message, options);
  }
}

/** An argument or option outside its documented range. */
export class InvalidArgumentError extends MambaError {
  constructor(message: string, options?: ErrorOptions) {
    super("invalid-argument", message, options);
  }
}

/** A model configuration with unknown or impossible values. */
export class ConfigError extends MambaError {
  constructor(message: string, options?: ErrorOptions) {
    super("config", message, options);
  }
}

/** A checkpoint file that is damaged, incomplete, or does not fit the model. Names the file and the tensor. */
export class CheckpointError extends MambaError {
  constructor(message: string, options?: ErrorOptions) {
    super("checkpoint", message, options);
  }
}

/** A download that failed, was cut short, or whose content is not what was promised. */
export class DownloadError extends MambaError {
  constructor(message: string, options?: ErrorOptions) {
    super("download", message, options);
  }
}

/** Training or evaluation data that cannot be used. */
export class DataError extends MambaError {
  constructor(message: string, options?: ErrorOptions) {
    super("data", message, options);
  }
}

/** NaN or infinity where a finite number is needed: a loss, a weight, a sample's logits. */
export class NonFiniteError extends MambaError {
  constructor(message: string, options?: ErrorOptions) {
    super("non-finite", message, options);
  }
}

/** Memory of the device or the process is exhausted; says what was asked and what would help. */
export class OutOfMemoryError extends MambaError {
  constructor(message: string, options?: ErrorOptions) {
    super("out-of-memory", message, options);
  }
}

/** The device went away (driver reset, tab in the background, worker died). */
export class DeviceLostError extends MambaError {
  constructor(message: string, options?: ErrorOptions) {
    super("device-lost", message, options);
  }
}

/** A backend broke its contract or its driver reported an error; the message carries the kernel's name and shapes. */
export class BackendError extends MambaError {
  constructor(message: string, options?: ErrorOptions) {
    super("backend", message, options);
  }
}
