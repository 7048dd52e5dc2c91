import type { FusedOps, Operand, SampleDescriptor } from "@mamba-ts/backend";
import { logSumExp } from "../functions.js";
import { philox } from "../philox.js";
import type { CpuMemory } from "../storage.js";
import { floatOutput, floats, type Output, output } from "../values.js";

/** Draws one token per row by the Gumbel trick: the largest of score + noise is distributed as softmax(scores). */
export function sample(memory: CpuMemory): NonNullable<FusedOps["sample"]> {
  return {
    supports: ({ vocab }) => vocab > 0,
    forward: ({ logits: operand, token: drawn, counter }, d) => {
      const { batch, vocab, temperature } = d;
      const logits = floats(memory, operand);
      // In place, the given tokens are overwritten, and each row has its own counter, which goes up by one.
      const token = drawn === undefined ? output(memory, batch, "int32") : given(memory, drawn);
      const counters = counter === undefined ? undefined : (memory.own(counter.buf).words as Int32Array);
      const logprob = floatOutput(memory, batch, "float32");
      for (let r = 0; r < batch; r++) {
        const row = Float64Array.from(logits.subarray(r * vocab, (r + 1) * vocab));
        const chosen =
          temperature === 0
            ? argMax(row)
            : draw(
                row.map((x) => x / temperature),
                r,
                counters === undefined ? d : { ...d, counter: counters[r]! >>> 0 },
              );
        token.values[r] = chosen;
        if (counters !== undefined) counters[r]! += 1;
        logprob.values[r] = row[chosen]! - logSumExp(row, 0, vocab);
      }
      return { outputs: { token: token.finish(), logprob: logprob.finish() } };
    },
  };
}

/** A buffer that is there already, as an output. */
function given(memory: CpuMemory, { buf }: Operand): Output {
  const own = memory.own(buf);
  return { values: own.words as Int32Array, finish: () => own };
}

/** The first of the largest; NaN counts as largest, as in argReduce. */
function argMax(x: Float64Array): number {
  let best = 0;
  for (let v = 0; v < x.length; v++) {
    if (Number.isNaN(x[v]!)) return v;
    if (x[v]! > x[best]!) best = v;
  }
  return best;
}

function draw(scores: Float64Array, row: number, d: SampleDescriptor): number {
  const top = scores[argMax(scores)]!;
  const floor = d.topK > 0 || d.topP < 1 ? leastKept(scores, top, d) : Number.NEGATIVE_INFINITY;
  const words = new Uint32Array(4);
  let block = -1;
  for (let v = 0; v < scores.length; v++) {
    const score = scores[v]!;
    if (score < floor || Math.exp(score - top) < d.minP) {
      scores[v] = Number.NEGATIVE_INFINITY;
      continue;
    }
    const index = row * d.vocab + v;
    if (Math.floor(index / 4) !== block) {
      block = Math.floor(index / 4);
      philox(block, d.counter, d.seed, words);
    }
    scores[v] = score - Math.log(-Math.log((words[index % 4]! + 0.5) / 2 ** 32));
  }
  return argMax(scores);
}

/** The lowest score that top-k, then top-p leave; what equals it stays too. */
function leastKept(scores: Float64Array, top: number, { topK, topP }: SampleDescriptor): number {
  const sorted = scores.slice().sort(); // ascending
  const n = sorted.length;
  let floor = topK > 0 && topK < n ? sorted[n - topK]! : Number.NEGATIVE_INFINITY;
  if (topP >= 1) return floor;
  let total = 0;
  for (let i = n - 1; i >= 0 && sorted[i]! >= floor; i--) total += Math.exp(sorted[i]! - top);
  for (let i = n - 1, mass = 0; i >= 0 && sorted[i]! >= floor; i--) {
    mass += Math.exp(sorted[i]! - top);
    if (mass >= topP * total) floor = sorted[i]!;
  }
  return floor;
}
