/** What both directions of the scan need. */
import type { FusedOps, SelectiveScanDescriptor } from "@mamba-ts/backend";
import { place } from "../primitives/place.js";
import type { WebGpuBuf, WebGpuMemory } from "../storage.js";
import { optional, splitsFor } from "./operands.js";

export type ScanArgs = Parameters<NonNullable<FusedOps["selectiveScan"]>["forward"]>[0];

/** States are kept before every so many tokens. */
export const CHUNK = 8;
/** Stretches of a sequence are multiples of it. */
const STRETCH = 32;
/** Workgroups with which a large device has enough to do, by measurement; with fewer the tokens are shared out to SPLIT_TO. */
const ENOUGH = 256;
const SPLIT_TO = 1024;

/** Threads that share a channel, four states each at least. */
export function lanesOf(dState: number): number {
  return dState <= 4 ? 1 : dState <= 8 ? 2 : 4;
}

/** What forward.wgsl and backward-ends.wgsl are specialised to: workgroup memory stays below 16 KiB. */
export function walkOf(dState: number) {
  return { D_STATE: dState, LANES: lanesOf(dState), TILE: dState <= 16 ? 16 : 8 };
}

/** Into how many stretches a scan over `length` tokens is cut: the pass before costs half as much again, so only a device that idles is worth it. */
export function stretchesOf(workgroups: number, length: number): { readonly splits: number; readonly stretch: number } {
  const splits = workgroups >= ENOUGH ? 1 : splitsFor(workgroups, length, 4 * STRETCH, SPLIT_TO);
  return { splits, stretch: Math.ceil(Math.ceil(length / splits) / STRETCH) * STRETCH };
}

/** Tokens of every sequence that one launch takes. */
export interface Segment {
  readonly first: number;
  readonly last: number;
}

/**
 * Cuts the sequences so that what a launch keeps or returns of each token fits into one buffer.
 * @param fits - whether that of so many tokens does
 * @returns undefined if not even the shortest piece does
 */
export function segmentsOf(length: number, fits: (tokens: number) => boolean): Segment[] | undefined {
  let pieces = 1;
  const tokens = (): number => Math.ceil(Math.ceil(length / pieces) / STRETCH) * STRETCH;
  while (!fits(Math.min(length, tokens()))) {
    if (tokens() <= STRETCH) return undefined;
    pieces++;
  }
  // An empty sequence is one piece too.
  const size = Math.max(STRETCH, tokens());
  return Array.from({ length: Math.max(1, Math.ceil(length / size)) }, (_, i) => ({
    first: i * size,
    last: Math.min(length, (i + 1) * size),
  }));
}

/** Numbers in the states of all channels. */
export function slotSize({ batch, dInner, dState }: SelectiveScanDescriptor): number {
  return batch * dInner * dState;
}

/** The flags of kernels/common/scan.wgsl. */
export function flagsOf(
  d: SelectiveScanDescriptor,
  { save = false, hasGy = false }: { readonly save?: boolean; readonly hasGy?: boolean },
): number {
  return [d.softplus, d.hasD, d.hasZ, d.hasDeltaBias, d.hasMarks, save, hasGy].reduce(
    (flags, on, bit) => flags | (on ? 1 << bit : 0),
    0,
  );
}

/** A, D, deltaBias and marks, and with `withBC` B and C, in one buffer, and where each begins. */
export function packSmall(memory: WebGpuMemory, args: ScanArgs, d: SelectiveScanDescriptor, withBC: boolean) {
  const { batch, length, dInner, dState, groups, hasD, hasDeltaBias, hasMarks } = d;
  const rows = batch * length;
  const counts = {
    a_count: dInner * dState,
    d_count: hasD ? dInner : 0,
    bias_count: hasDeltaBias ? dInner : 0,
    marks_count: hasMarks ? rows : 0,
  };
  const d_at = counts.a_count;
  const bias_at = d_at + counts.d_count;
  const marks_at = bias_at + counts.bias_count;
  const b_at = marks_at + counts.marks_count;
  const c_at = b_at + rows * groups * dState;
  const buf: WebGpuBuf = memory.alloc(withBC ? c_at + rows * groups * dState : b_at, "float32");
  const { A, D, deltaBias, marks } = args;
  memory.gpu.run(
    "selective-scan/pack",
    {
      A: memory.own(A.buf),
      D: optional(memory, D),
      bias: optional(memory, deltaBias),
      marks: optional(memory, marks),
      small: buf,
    },
    counts,
    { threads: b_at },
  );
  if (withBC)
    for (const [operand, y_start] of [
      [args.B, b_at],
      [args.C, c_at],
    ] as const)
      place(memory, memory.own(operand.buf), buf, {
        rows,
        run: groups * dState,
        x_start: operand.offset,
        x_pitch: operand.rowStride,
        y_start,
        y_pitch: groups * dState,
      });
  return { buf, at: { d_at, bias_at, marks_at }, b_at, c_at };
}
