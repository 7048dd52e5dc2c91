/** Rows of words from one place to another: what copies, joins and cuts are made of. */
import type { Located } from "../gpu/gpu.js";
import type { WebGpuMemory } from "../storage.js";

/** Quads that a thread of copy/quads moves. */
const QUADS_EACH = 4;

/** Copies rows of `run` words between pitches: four at a time where starts and pitches allow it. */
export function place(
  memory: WebGpuMemory,
  x: Located,
  y: Located,
  at: {
    readonly rows: number;
    readonly run: number;
    readonly x_start?: number;
    readonly x_pitch: number;
    readonly y_start: number;
    readonly y_pitch: number;
  },
): void {
  const { rows, run, x_start = 0, y_start } = at;
  // One row needs no pitch.
  const [x_pitch, y_pitch] = rows === 1 ? [0, 0] : [at.x_pitch, at.y_pitch];
  if ([x_start, x_pitch, y_start, y_pitch].some((n) => n % 4 !== 0)) {
    const count = rows * run;
    memory.gpu.run("copy/place", { x, y }, { count, run, x_start, x_pitch, y_start, y_pitch }, { threads: count });
    return;
  }
  const per_row = Math.ceil(run / 4);
  const params = {
    ...{ count: rows * per_row, per_row, run },
    ...{ x_start: x_start / 4, x_pitch: x_pitch / 4, y_start: y_start / 4, y_pitch: y_pitch / 4 },
  };
  const threads = Math.ceil(params.count / (256 * QUADS_EACH)) * 256;
  memory.gpu.run("copy/quads", { x, y }, params, { constants: { EACH: QUADS_EACH }, threads });
}
