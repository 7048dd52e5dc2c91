import { DataError } from "@mamba-ts/backend";
import { type ByteSource, expectSize } from "@mamba-ts/byte-io";
import { Rng } from "@mamba-ts/tensor";

/** Sequences of one more token than is fed in: the last one is only a target. */
export interface Batch {
  /** [batch][length + 1] */
  readonly tokens: readonly Int32Array[];
  /** [batch][length + 1], -1 for padding; a change of id starts a new document. */
  readonly segments?: readonly Int32Array[];
  /** [batch][length + 1], 0 where a token is no target, so that only answers, and not questions, are learnt; all count by default. */
  readonly targets?: readonly ArrayLike<number>[];
}

/** Batches by number: step k's batch is the same whenever it is asked for, which is what makes resuming exact. */
export interface BatchSource {
  batch(step: number): Promise<Batch>;
  /** Bytes of text per token, to turn nats per token into bits per byte; 1 for bytes. */
  readonly bytesPerToken: number;
  /** True if row r of batch k + 1 goes on where row r of batch k ended: the state may be carried. */
  readonly isContiguous: boolean;
}

/** Tokens by position: bytes of a file, or ids in memory. */
export interface TokenSource {
  readonly name: string;
  readonly size: number;
  read(offset: number, length: number): Promise<Int32Array>;
}

/** The bytes of a source as tokens. */
export function byteTokens(source: ByteSource): TokenSource {
  return {
    name: source.name,
    size: source.size,
    read: async (offset, length) => Int32Array.from(await source.read(offset, length)),
  };
}

/** Token ids in memory. */
export function memoryTokens(ids: ArrayLike<number>, name = "tokens"): TokenSource {
  const all = Int32Array.from(ids);
  return { name, size: all.length, read: async (offset, length) => all.slice(offset, offset + length) };
}

export interface WindowOptions {
  readonly batch: number;
  /** Tokens fed in per sequence. */
  readonly length: number;
  readonly seed?: number;
  readonly bytesPerToken?: number;
}

function expectWindow(source: TokenSource, length: number): void {
  expectSize({ ...source, read: async () => new Uint8Array(0), close: async () => {} }, length);
}

/** Windows at random places, drawn by (seed, step). Throws a data error if the source is empty or shorter than one sequence. */
export function randomWindows(
  source: TokenSource,
  { batch, length, seed = 0, bytesPerToken = 1 }: WindowOptions,
): BatchSource {
  expectWindow(source, length + 1);
  return {
    bytesPerToken,
    isContiguous: false,
    async batch(step) {
      const places = new Rng(seed, step).uniform(batch);
      return {
        tokens: await Promise.all(
          Array.from(places, (u) => source.read(Math.floor(u * (source.size - length)), length + 1)),
        ),
      };
    },
  };
}

/** Each row reads its own stretch of the source from front to back, for truncated backpropagation with carried state. */
export function contiguousWindows(
  source: TokenSource,
  { batch, length, bytesPerToken = 1 }: WindowOptions,
): BatchSource {
  const stretch = Math.floor((source.size - 1) / batch);
  expectWindow(source, batch * length + 1);
  const steps = Math.floor(stretch / length);
  if (steps < 1)
    throw new DataError(`${source.name}: ${source.size} tokens are too few for ${batch} rows of ${length}`);
  return {
    bytesPerToken,
    isContiguous: true,
    async batch(step) {
      const at = (step % steps) * length;
      return {
        tokens: await Promise.all(Array.from({ length: batch }, (_, r) => source.read(r * stretch + at, length + 1))),
      };
    },
  };
}
