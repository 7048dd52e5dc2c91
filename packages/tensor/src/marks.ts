import { InvalidArgumentError } from "@mamba-ts/backend";
import { compare } from "./ops/binary.js";
import { unsqueeze } from "./ops/view.js";
import { where } from "./ops/where.js";
import { scoped } from "./scope.js";
import type { Tensor } from "./tensor.js";

/** What a token does to the recurrent state: 0 continues, 1 starts a new sequence (forget first), -1 is padding (ignored). */
export interface SegmentMarks {
  /** int32 [batch, length] */
  readonly marks: Int32Array;
  /** The id each row ends in: the last one that is no padding, or the one it began with. [batch] */
  readonly last: Int32Array;
}

/**
 * Translates segment ids into marks. A change of id starts a new sequence; -1 is padding.
 * @param segments - [batch * length] ids, row-major, each -1 or above
 * @param previous - [batch] the ids the rows' states end in; -1 where there is none yet, so that nothing is forgotten
 */
export function segmentMarks(segments: ArrayLike<number>, batch: number, previous?: ArrayLike<number>): SegmentMarks {
  const length = batch === 0 ? 0 : segments.length / batch;
  if (!Number.isInteger(length))
    throw new InvalidArgumentError(`segments: ${segments.length} ids do not fill ${batch} rows of equal length`);
  const marks = new Int32Array(segments.length);
  const last = new Int32Array(batch).fill(-1);
  for (let b = 0; b < batch; b++) {
    let current = previous?.[b] ?? -1;
    for (let t = 0; t < length; t++) {
      const i = b * length + t;
      const id = segments[i]!;
      if (!Number.isInteger(id) || id < -1 || id > 2147483647)
        throw new InvalidArgumentError(`segments: id ${id} at row ${b}, position ${t} is not an int32 of at least -1`);
      marks[i] = id === -1 ? -1 : current !== -1 && id !== current ? 1 : 0;
      if (id !== -1) current = id;
    }
    last[b] = current;
  }
  return { marks, last };
}

/** `t` [batch, length, channels] with zeros selected where `marks` [batch, length] says padding. */
export const clearPadding = /* @__PURE__ */ scoped(function clearPadding(t: Tensor, marks: Tensor | undefined): Tensor {
  return marks === undefined ? t : where(unsqueeze(compare("lt", marks, 0), 2), 0, t);
});
