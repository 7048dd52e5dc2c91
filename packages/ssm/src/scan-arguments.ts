import { expectLength, expectSizes, SsmError } from "./errors.js";
import { softplus } from "./functions.js";

export interface ScanShape {
  readonly batch: number;
  readonly length: number;
  readonly dInner: number;
  readonly dState: number;
  /** Divides dInner; the dInner / groups channels of one group share B and C. 1 by default. */
  readonly groups?: number;
}

/** What a selective scan reads; arrays are row-major. */
export interface ScanArguments extends ScanShape {
  /** [batch, length, dInner] */
  readonly x: Float64Array;
  /** [batch, length, dInner]: step sizes, before bias and softplus if there are any. */
  readonly delta: Float64Array;
  /** [dInner, dState]: the diagonal of the state matrix, negative in a stable system. */
  readonly A: Float64Array;
  /** [batch, length, groups * dState] */
  readonly B: Float64Array;
  /** [batch, length, groups * dState] */
  readonly C: Float64Array;
  /** [dInner]: the skip connection. */
  readonly D?: Float64Array;
  /** [batch, length, dInner]: the gate. */
  readonly z?: Float64Array;
  /** [dInner]: added to delta before the softplus. */
  readonly deltaBias?: Float64Array;
  /** Whether step sizes go through softplus; false by default. */
  readonly softplus?: boolean;
  /** [batch, dInner, dState]; zeros by default. */
  readonly initialState?: Float64Array;
  /** [batch, length]. 1: the state is cleared before this token. -1: padding, the state is held, y is 0, nothing of the token is read. */
  readonly marks?: Int32Array;
}

/** Throws SsmError unless all arrays fit the shape. */
export function checkScan(op: string, args: ScanArguments): Required<ScanShape> {
  const { batch, length, dInner, dState, groups = 1 } = args;
  expectSizes(op, { batch, length, dInner, dState, groups });
  if (groups < 1 || dInner % groups !== 0)
    throw new SsmError("shape", `${op}: ${groups} groups do not divide dInner ${dInner}`);
  const tokens = [batch, length, dInner];
  const shapes = {
    x: tokens,
    delta: tokens,
    A: [dInner, dState],
    B: [batch, length, groups * dState],
    C: [batch, length, groups * dState],
    D: [dInner],
    z: tokens,
    deltaBias: [dInner],
    initialState: [batch, dInner, dState],
    marks: [batch, length],
  };
  for (const [name, shape] of Object.entries(shapes)) expectLength(op, name, args[name as keyof typeof shapes], shape);
  return { batch, length, dInner, dState, groups };
}

/** Step size of channel c at token `row` = batch * length + t. */
export function stepSize({ delta, deltaBias, softplus: soft, dInner }: ScanArguments, row: number, c: number): number {
  const raw = delta[row * dInner + c]! + (deltaBias?.[c] ?? 0);
  return soft === true ? softplus(raw) : raw;
}

/** Index of (row, channel c's group, state 0) in B and C. */
export function groupOffset({ groups = 1, dInner, dState }: ScanShape, row: number, c: number): number {
  return (row * groups + Math.floor(c / (dInner / groups))) * dState;
}
