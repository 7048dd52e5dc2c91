import { ShapeError } from "@mamba-ts/backend";
import { fromHost, gather, reshape, segmentMarks, type Tensor } from "@mamba-ts/tensor";

/** Segment ids [batch, length], as rows or in one array. */
export type SegmentIds = ArrayLike<number> | readonly ArrayLike<number>[];

/** What the ids mean for one call of `forward`. */
export interface SegmentPlan {
  readonly batch: number;
  readonly length: number;
  /** [batch, length], -1 for padding; undefined if no ids were given. */
  readonly ids: Int32Array | undefined;
  /** See `segmentMarks`; undefined if no token starts a sequence or is padding. */
  readonly marks: Int32Array | undefined;
  /** [batch]: the id each row ends in. */
  readonly last: Int32Array;
  /** The plan of tokens start … end - 1. */
  slice(start: number, end: number): SegmentPlan;
}

/** @param previous - [batch]: the ids the carried state is in; none without a state */
export function planSegments(
  segments: SegmentIds | undefined,
  batch: number,
  length: number,
  previous: Int32Array | undefined,
): SegmentPlan {
  const ids = segments === undefined ? undefined : flatten(segments, batch, length);
  return plan(ids, batch, length, previous ?? new Int32Array(batch).fill(-1));
}

function plan(ids: Int32Array | undefined, batch: number, length: number, previous: Int32Array): SegmentPlan {
  const found = ids === undefined ? undefined : segmentMarks(ids, batch, previous);
  return {
    batch,
    length,
    ids,
    marks: found?.marks.some((m) => m !== 0) === true ? found.marks : undefined,
    last: found?.last ?? previous.slice(),
    slice: (start, end) => {
      if (ids === undefined) return plan(undefined, batch, end - start, previous);
      const columns = (from: number, to: number): Int32Array => {
        const part = new Int32Array(batch * (to - from));
        for (let b = 0; b < batch; b++) part.set(ids.subarray(b * length + from, b * length + to), b * (to - from));
        return part;
      };
      return plan(columns(start, end), batch, end - start, segmentMarks(columns(0, start), batch, previous).last);
    },
  };
}

function flatten(segments: SegmentIds, batch: number, length: number): Int32Array {
  const isRows = typeof segments[0] === "object";
  const rows = isRows ? (segments as readonly ArrayLike<number>[]) : undefined;
  if (rows !== undefined && (rows.length !== batch || rows.some((row) => row.length !== length)))
    throw new ShapeError(
      `segments: ${rows.length} rows of ${rows.map((r) => r.length).join(", ")} ids for tokens [${batch}, ${length}]`,
    );
  const flat = rows === undefined ? (segments as ArrayLike<number>) : rows.flatMap((row) => Array.from(row));
  if (flat.length !== batch * length)
    throw new ShapeError(`segments: ${flat.length} ids for tokens [${batch}, ${length}]`);
  return Int32Array.from(flat);
}

/** The hidden state of each row's last token that is no padding: [batch, 1, width]. A row of padding alone gives its last position. */
export function lastRealTokens(hidden: Tensor, { batch, length, ids }: SegmentPlan): Tensor {
  if (length === 1) return hidden;
  const width = hidden.shape[2]!;
  const at = Int32Array.from({ length: batch }, (_, b) => {
    let t = length - 1;
    while (t > 0 && ids?.[b * length + t] === -1) t--;
    return b * length + (ids?.[b * length + t] === -1 ? length - 1 : t);
  });
  const rows = gather(reshape(hidden, [batch * length, width]), fromHost(hidden.backend, at, [batch], "int32"), 0);
  return reshape(rows, [batch, 1, width]);
}

export interface SegmentEnd {
  readonly start: number;
  readonly end: number;
  /** The segments whose last real token lies just before `end`. */
  readonly ended: readonly { readonly row: number; readonly id: number }[];
}

/** Cuts the length at every place where some row's segment ends. */
export function segmentEnds({ batch, length, ids, last }: SegmentPlan): SegmentEnd[] {
  const endings = new Map<number, { row: number; id: number }[]>();
  const note = (end: number, row: number, id: number): void => {
    endings.set(end, [...(endings.get(end) ?? []), { row, id }]);
  };
  for (let row = 0; row < batch; row++) {
    let open: { id: number; end: number } | undefined;
    for (let t = 0; t < length; t++) {
      const id = ids?.[row * length + t] ?? last[row]!;
      if (ids !== undefined && id === -1) continue;
      if (open !== undefined && open.id !== id) note(open.end, row, open.id);
      open = { id, end: t + 1 };
    }
    if (open !== undefined) note(open.end, row, open.id);
  }
  const cuts = [...new Set([...endings.keys(), length])].filter((end) => end > 0).sort((a, b) => a - b);
  return cuts.map((end, i) => ({ start: cuts[i - 1] ?? 0, end, ended: endings.get(end) ?? [] }));
}
