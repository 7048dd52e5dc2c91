import type { Buf, FusedOps } from "@mamba-ts/backend";
import { logSumExp } from "../functions.js";
import { gemm } from "../gemm.js";
import type { CpuMemory } from "../storage.js";
import { type Floats, floatOutput, floats, output, read } from "../values.js";

type Op = NonNullable<FusedOps["linearCrossEntropy"]>;
/** Logits of about so many numbers exist at a time. */
const BLOCK = 2 ** 18;
/** At least so many rows share one packing of the weight. */
const LEAST_ROWS = 64;

function rowsPerBlock(rows: number, vocab: number): number {
  return Math.max(1, Math.min(rows, Math.max(LEAST_ROWS, Math.floor(BLOCK / vocab))));
}

/** The logit of `target`; as in the composition, a target past the vocabulary meets no weight and counts as 0. */
function logitOf(logits: Float64Array, row: number, vocab: number, target: number): number {
  return target < vocab ? logits[row * vocab + target]! : 0;
}

/** Cross-entropy of a linear head; logits are made, used and forgotten a few rows at a time. */
export function linearCrossEntropy(memory: CpuMemory): Op {
  return {
    supports: () => true,
    forward: (args, { rows, width, vocab, dtype }, { save }) => {
      const [hidden, weight] = [floats(memory, args.hidden), floats(memory, args.weight)];
      const targets = read(memory, args.targets.buf);
      const loss = output(memory, rows, dtype === "float64" ? "float64" : "float32");
      // The backward pass turns logits into probabilities with what the forward pass found.
      const logSums = save ? output(memory, rows, "float64") : undefined;
      const step = rowsPerBlock(rows, vocab);
      const logits = new Float64Array(step * vocab);
      for (let r0 = 0; r0 < rows; r0 += step) {
        const n = Math.min(step, rows - r0);
        scores(hidden, weight, r0, n, width, vocab, logits);
        for (let r = 0; r < n; r++) {
          const target = targets[r0 + r]!;
          const sum = logSumExp(logits, r * vocab, vocab);
          if (logSums !== undefined) logSums.values[r0 + r] = sum;
          loss.values[r0 + r] = target < 0 ? 0 : sum - logitOf(logits, r, vocab, target);
        }
      }
      return { outputs: { loss: loss.finish() }, saved: logSums === undefined ? [] : [logSums.finish()] };
    },
    backward: (args, { rows, width, vocab, dtype }, _outputs, saved, { loss: gradLoss }, needs) => {
      const [hidden, weight, g] = [floats(memory, args.hidden), floats(memory, args.weight), floats(memory, gradLoss!)];
      const targets = read(memory, args.targets.buf);
      const logSums = read(memory, saved[0]!);
      const gHidden = needs.has("hidden") ? floatOutput(memory, rows * width, dtype) : undefined;
      const gWeight = needs.has("weight") ? floatOutput(memory, vocab * width, args.weight.dtype) : undefined;
      gWeight?.values.fill(0);
      const step = rowsPerBlock(rows, vocab);
      const logits = new Float64Array(step * vocab);
      for (let r0 = 0; r0 < rows; r0 += step) {
        const n = Math.min(step, rows - r0);
        scores(hidden, weight, r0, n, width, vocab, logits);
        for (let r = 0; r < n; r++) {
          const target = targets[r0 + r]!;
          const scale = target < 0 ? 0 : g[r0 + r]!;
          for (let v = 0, i = r * vocab; v < vocab; v++, i++)
            logits[i] = scale === 0 ? 0 : scale * Math.exp(logits[i]! - logSums[r0 + r]!);
          if (target >= 0 && target < vocab) logits[r * vocab + target] = logits[r * vocab + target]! - scale;
        }
        const gLogits = { data: logits, offset: 0, rowStride: vocab, columnStride: 1 };
        if (gHidden !== undefined)
          gemm(
            gLogits,
            { data: weight, offset: 0, rowStride: width, columnStride: 1 },
            gHidden.values,
            r0 * width,
            width,
            n,
            width,
            vocab,
          );
        if (gWeight !== undefined)
          gemm(
            { data: logits, offset: 0, rowStride: 1, columnStride: vocab },
            { data: hidden, offset: r0 * width, rowStride: width, columnStride: 1 },
            gWeight.values,
            0,
            width,
            vocab,
            width,
            n,
            true,
          );
      }
      const result: { [K in "hidden" | "weight"]?: Buf } = {};
      if (gHidden !== undefined) result.hidden = gHidden.finish();
      if (gWeight !== undefined) result.weight = gWeight.finish();
      return result;
    },
  };
}

function scores(
  hidden: Floats,
  weight: Floats,
  r0: number,
  rows: number,
  width: number,
  vocab: number,
  into: Float64Array,
): void {
  gemm(
    { data: hidden, offset: r0 * width, rowStride: width, columnStride: 1 },
    { data: weight, offset: 0, rowStride: 1, columnStride: width },
    into,
    0,
    vocab,
    rows,
    vocab,
    width,
  );
}
