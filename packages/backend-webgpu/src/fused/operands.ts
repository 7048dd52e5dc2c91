/** What fused operations share: operands as kernels take them, and how far a reduction over rows is cut up. */
import type { Operand } from "@mamba-ts/backend";
import type { WebGpuBuf, WebGpuMemory } from "../storage.js";

export function optional(memory: WebGpuMemory, operand: Operand | undefined): WebGpuBuf | undefined {
  return operand === undefined ? undefined : memory.own(operand.buf);
}

/** Where an operand's rows lie: a slice of the last axis has a pitch larger than its width. */
export function rowsOf(operand: Operand | undefined): { readonly start: number; readonly pitch: number } {
  return { start: operand?.offset ?? 0, pitch: operand?.rowStride ?? 0 };
}

/** Into how many stretches work along a sequence is cut so that a large device is busy; each has at least `least` elements. */
export function splitsFor(groups: number, length: number, least: number, plenty = 512): number {
  if (groups === 0 || groups >= plenty / 2) return 1;
  return Math.max(1, Math.min(Math.ceil(plenty / groups), Math.floor(length / least), 65_535));
}

/** Workgroups beyond a grid's first dimension go into its second; the third counts stretches. */
export function gridOf(groups: number, splits: number): [number, number, number] {
  const y = Math.ceil(groups / 65_535);
  return [y === 0 ? 0 : Math.ceil(groups / y), y, splits];
}
