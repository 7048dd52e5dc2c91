/** Chunks are whole tiles of every kernel, and begin where states are kept. */
const TILE = 128;
/** Below, a chunk costs more than it brings. */
const SHORTEST_CHUNK = 256;
const MOST_CHUNKS = 256;
/** What the pass that only finds the states costs, of the whole pass, forward and backward (measured). */
const SUMMARY = [0.7, 0.25] as const;
/** A block that has its multiprocessor to itself takes this much of the time of one that shares it with another (measured). */
const ALONE = 0.67;

/** What there is to divide, and what there is for it. */
export interface Work {
  /** Blocks, if each takes the whole length. */
  readonly units: number;
  readonly length: number;
  /** Blocks that run at once on a multiprocessor. */
  readonly resident: number;
  readonly multiprocessors: number;
  /** Whether some blocks may be split and others not, and the chunk that need not wait may be shorter. */
  readonly isRow: boolean;
  readonly isBackward: boolean;
}

/** How the length is cut into chunks, all of one length but for the one that need not wait: the first, backward the last. */
export interface Cut {
  readonly chunks: number;
  readonly chunkLength: number;
  /** By how much the first chunk is shorter than the others. */
  readonly shift: number;
  /** So many of the units take the whole length. */
  readonly unsplit: number;
}

/** When each of the places for blocks is free: [time, places], the earliest first. Blocks are handed out in order, each to the first free place. */
class Places {
  readonly #free: [number, number][];
  constructor(places: number) {
    this.#free = [[0, places]];
  }

  /** Hands out `blocks` blocks that take `cost` from `ready` on; returns when the last is done. */
  run(blocks: number, cost: number, ready = 0): number {
    let end = 0;
    for (let left = blocks; left > 0; ) {
      const first = this.#free[0]!;
      const count = Math.min(left, first[1]);
      end = Math.max(first[0], ready) + cost;
      first[1] -= count;
      if (first[1] === 0) this.#free.shift();
      const at = this.#free.findIndex(([time]) => time >= end);
      if (at < 0) this.#free.push([end, count]);
      else if (this.#free[at]![0] === end) this.#free[at]![1] += count;
      else this.#free.splice(at, 0, [end, count]);
      left -= count;
    }
    return end;
  }
}

/** What it costs that no unit is split; see `costOf`. */
function costOfNone({ units, length, resident, multiprocessors }: Work): number {
  const slots = resident * multiprocessors;
  const shared = Math.ceil((units % slots) / multiprocessors);
  const last = shared === 0 ? 0 : resident === 1 ? 1 : ALONE + ((1 - ALONE) * (shared - 1)) / (resident - 1);
  return (length + TILE) * (Math.floor(units / slots) + last);
}

/**
 * What a cut costs, in tokens that a block of a full device goes through: the summaries of the chunks that another one follows (in a row forward, all but the
 * first one's, which leaves its state itself); beside them what need not wait for those (units that take the whole length, first chunks); then the
 * other chunks. The ring takes about a tile to fill.
 */
export function costOf(cut: Cut, work: Work): number {
  const { units, length, resident, multiprocessors, isBackward } = work;
  if (cut.chunks === 1) return costOfNone(work);
  const split = units - cut.unsplit;
  const [whole, part] = [length + TILE, cut.chunkLength + TILE];
  const first = length - (cut.chunks - 1) * cut.chunkLength + TILE;
  // Whole lengths, no more than one a multiprocessor, run beside all others; with one place a multiprocessor they come in between.
  const beside = resident > 1 ? cut.unsplit : 0;
  const places = new Places(resident * multiprocessors - beside);
  const summary = SUMMARY[isBackward ? 1 : 0] * part;
  let end = 0;
  if (work.isRow && !isBackward) {
    const known = [places.run(split, first)];
    for (let c = 1; c < cut.chunks - 1; c++) known.push(Math.max(known[c - 1]!, places.run(split, summary)));
    for (const ready of known) end = Math.max(end, places.run(split, part, ready));
  } else {
    const known = places.run(split * (cut.chunks - 1), summary);
    end = Math.max(known, places.run(cut.unsplit - beside, whole), places.run(split, first));
    end = Math.max(end, places.run(split * (cut.chunks - 1), part, known));
  }
  if (beside > 0 && whole > end) return end + ALONE * (whole - end);
  return resident > 1 && cut.unsplit + split * cut.chunks <= multiprocessors ? ALONE * end : end;
}

/** Cuts that may pay: of all units, or of those that are left over when the others have filled the device evenly. */
export function* cutsOf({ units, length, resident, multiprocessors, isRow, isBackward }: Work): Iterable<Cut> {
  yield { chunks: 1, chunkLength: Math.ceil(length / TILE) * TILE, shift: 0, unsplit: 0 };
  const even = Math.floor(units / multiprocessors) * multiprocessors;
  const leavesSome = isRow && even > 0 && even < units && (resident === 1 || even === multiprocessors);
  const most = Math.min(MOST_CHUNKS, Math.floor(length / SHORTEST_CHUNK));
  for (const unsplit of leavesSome ? [0, even] : [0]) {
    // More than some waves of chunks bring nothing any more.
    const useful = 1 + Math.ceil((6 * resident * multiprocessors) / (units - unsplit));
    for (let chunks = 2; chunks <= Math.min(most, useful); chunks++) {
      // Blocks are spread evenly, one whole length a multiprocessor, only if the device holds all of them at once.
      const isForwardRow = isRow && !isBackward;
      if (isForwardRow && unsplit > 0 && unsplit + (units - unsplit) * (2 * chunks - 2) > resident * multiprocessors)
        break;
      const least = Math.ceil(length / chunks / TILE);
      const top = isRow ? Math.max(least, Math.floor((length - 1) / (chunks - 1) / TILE)) : least;
      for (let tiles = least; tiles <= top; tiles += Math.max(1, Math.floor((top - least) / 12))) {
        const chunkLength = tiles * TILE;
        const count = Math.ceil(length / chunkLength);
        if (count === 1) continue;
        const shift = isRow && !isBackward ? Math.floor((count * chunkLength - length) / TILE) * TILE : 0;
        yield { chunks: count, chunkLength, shift, unsplit };
      }
    }
  }
}

const known = new Map<string, Cut>();

/** Few channels leave the device idle: the length is split where that is faster, for it takes a pass that only finds the states between the chunks. */
export function cutFor(work: Work): Cut {
  const key = JSON.stringify(work);
  const before = known.get(key);
  if (before !== undefined) return before;
  let [best, least]: [Cut | undefined, number] = [undefined, Number.POSITIVE_INFINITY];
  for (const cut of cutsOf(work)) {
    const cost = costOf(cut, work);
    if (cost < least) [best, least] = [cut, cost];
  }
  known.set(key, best!);
  return best!;
}
