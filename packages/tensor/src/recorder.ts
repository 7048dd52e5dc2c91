/** What operations tell an open tape. The tape itself is in tape.ts: it needs operations, and these need only this. */
import { InvalidArgumentError, UnsupportedError } from "@mamba-ts/backend";
import type { Tensor } from "./tensor.js";

/** A gradient, computed only when it is asked for. `undefined`: this input has none. */
export type GradientThunk = (() => Tensor | undefined) | undefined;
/** Gradients of the outputs (undefined where nothing depends on one) -> one thunk per input. `needs[i]`: input i's is wanted. */
export type GradientRule = (
  gradOutputs: readonly (Tensor | undefined)[],
  needs: readonly boolean[],
) => readonly GradientThunk[];

/** What listens while operations run: a tape, or an observer of what a function reads. */
export interface Recorder {
  tracks(tensor: Tensor): boolean;
  add(
    inputs: readonly (Tensor | undefined)[],
    outputs: readonly Tensor[],
    saved: readonly Tensor[],
    rule: GradientRule,
  ): void;
  touch(tensor: Tensor): void;
  /** See `forget`; without it nothing is forgotten. */
  forget?(tensors: readonly Tensor[], reads: readonly Tensor[], again: () => readonly Tensor[]): void;
}

let recorder: Recorder | undefined;

/** The one that listens now. */
export function currentRecorder(): Recorder | undefined {
  return recorder;
}

/** True if a tape is open that tracks one of these tensors: the operation must be recorded. */
export function isRecording(inputs: readonly (Tensor | undefined)[]): boolean {
  return recorder !== undefined && inputs.some((t) => t !== undefined && recorder!.tracks(t));
}

/** True if any tape is open; operations that write in place refuse then. */
export function tapeIsOpen(): boolean {
  return recorder !== undefined;
}

/** Who captures a function: its replays know the memory of tensors, not the handles. */
export interface Capturing {
  /** An operation takes this tensor, or writes where it lies. */
  use(tensor: Tensor): void;
  /** Copies `source` to where `tensor` lies, so that it need not move there; false if that is not possible. */
  copyInto(tensor: Tensor, source: Tensor): boolean;
}
let capturing: Capturing | undefined;

/** Tells the open recorder, if there is one, that an operation reads this tensor. */
export function touch(tensor: Tensor): void {
  recorder?.touch(tensor);
  capturing?.use(tensor);
}

/** Tells who captures, if anyone does, that an operation takes this tensor; no gradient needs to know. */
export function use(tensor: Tensor): void {
  capturing?.use(tensor);
}

/** The one that captures now. */
export function currentCapturing(): Capturing | undefined {
  return capturing;
}

/** Runs `fn` for one that captures it. */
export function withCapturing<T>(next: Capturing, fn: () => T): T {
  const outer = capturing;
  capturing = next;
  try {
    return fn();
  } finally {
    capturing = outer;
  }
}

/**
 * Records an operation that has been done. `saved` are the tensors the rule will read: the tape keeps them alive until the
 * gradient has run, whatever scope ends before. Does nothing unless a tracked input is among `inputs`.
 */
export function record(
  inputs: readonly (Tensor | undefined)[],
  outputs: readonly Tensor[],
  saved: readonly Tensor[],
  rule: GradientRule,
): void {
  if (isRecording(inputs)) recorder!.add(inputs, outputs, saved, rule);
}

/**
 * Frees intermediate results that only the gradient will read and that cost little: it computes them again when it comes to the operations recorded
 * since they were made. Does nothing where no gradient is recorded.
 * @param tensors - dense, and read by nothing any more
 * @param reads - what `again` reads and the caller may free before the gradient
 * @param again - computes them again, in the same order
 */
export function forget(
  tensors: readonly Tensor[],
  reads: readonly (Tensor | undefined)[],
  again: () => readonly Tensor[],
): void {
  const known = recorder === undefined ? [] : tensors.filter((t) => recorder!.tracks(t));
  if (known.length < tensors.length || known.length === 0) return;
  const given = reads.filter((t) => t !== undefined);
  recorder!.forget?.(tensors, given, again);
}

/** Runs `fn` with recording off: its results are constants to any open tape. */
export function withoutRecording<T>(fn: () => T): T {
  return withRecorder(undefined, fn);
}

/** Runs `fn` with another recorder, or none. */
export function withRecorder<T>(next: Recorder | undefined, fn: () => T): T {
  const outer = recorder;
  recorder = next;
  try {
    return fn();
  } finally {
    recorder = outer;
  }
}

/** Throws UnsupportedError while a tape is open: for operations that write in place. */
export function refuseOnTape(op: string): void {
  if (tapeIsOpen())
    throw new UnsupportedError(`${op}: cannot write in place while gradients are being recorded`, {
      hint: "leave out `into`, or do it after valueAndGrad",
    });
}

/** Throws InvalidArgumentError unless called with at least one tensor. */
export function expectSome(op: string, tensors: readonly unknown[]): void {
  if (tensors.length === 0) throw new InvalidArgumentError(`${op}: needs at least one tensor`);
}
