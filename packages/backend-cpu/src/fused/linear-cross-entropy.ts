import type { Buf, FusedOps } from "@mamba-ts/backend";
import { gemm } from "../gemm.js";
import type { CpuMemory } from "../storage.js";
import { floats, output, read } from "../values.js";

type Op = NonNullable<FusedOps["linearCrossEntropy"]>;
type Numbers = Float32Array | Float64Array;
/** Logits of so many numbers exist at a time. */
const BLOCK = 2 ** 18;

/** Cross-entropy of a linear head; logits are made, used and forgotten a few rows at a time. */
export function linearCrossEntropy(memory: CpuMemory): Op {
  return {
    supports: ({ dtype }) => dtype === "float32" || dtype === "float64",
    forward: (args, { rows, width, vocab, dtype }, { save }) => {
      const [hidden, weight] = [floats(memory, args.hidden), floats(memory, args.weight)];
      const targets = read(memory, args.targets.buf);
      const loss = output(memory, rows, dtype);
      // The backward pass turns logits into probabilities with what the forward pass found.
      const logSums = save ? output(memory, rows, "float64") : undefined;
      const step = Math.max(1, Math.min(rows, Math.floor(BLOCK / vocab)));
      const logits = new Float64Array(step * vocab);
      for (let r0 = 0; r0 < rows; r0 += step) {
        const n = Math.min(step, rows - r0);
        scores(hidden, weight, r0, n, width, vocab, logits);
        for (let r = 0; r < n; r++) {
          const target = targets[r0 + r]!;
          const sum = logSumExp(logits, r * vocab, vocab);
          if (logSums !== undefined) logSums.values[r0 + r] = sum;
          loss.values[r0 + r] = target < 0 ? 0 : sum - logits[r * vocab + target]!;
        }
      }
      return { outputs: { loss: loss.finish() }, saved: logSums === undefined ? [] : [logSums.finish()] };
    },
    backward: (args, { rows, width, vocab, dtype }, _outputs, saved, { loss: gradLoss }, needs) => {
      const [hidden, weight, g] = [floats(memory, args.hidden), floats(memory, args.weight), floats(memory, gradLoss!)];
      const targets = read(memory, args.targets.buf);
      const logSums = read(memory, saved[0]!);
      const gHidden = needs.has("hidden") ? output(memory, rows * width, dtype) : undefined;
      const gWeight = needs.has("weight") ? output(memory, vocab * width, dtype) : undefined;
      gWeight?.values.fill(0);
      const step = Math.max(1, Math.min(rows, Math.floor(BLOCK / vocab)));
      const logits = new Float64Array(step * vocab);
      for (let r0 = 0; r0 < rows; r0 += step) {
        const n = Math.min(step, rows - r0);
        scores(hidden, weight, r0, n, width, vocab, logits);
        for (let r = 0; r < n; r++) {
          const target = targets[r0 + r]!;
          const scale = target < 0 ? 0 : g[r0 + r]!;
          for (let v = 0, i = r * vocab; v < vocab; v++, i++)
            logits[i] = scale === 0 ? 0 : scale * Math.exp(logits[i]! - logSums[r0 + r]!);
          if (target >= 0) logits[r * vocab + target] = logits[r * vocab + target]! - scale;
        }
        const gLogits = { data: logits, offset: 0, rowStride: vocab, columnStride: 1 };
        if (gHidden !== undefined)
          gemm(
            gLogits,
            { data: weight, offset: 0, rowStride: width, columnStride: 1 },
            gHidden.values as Numbers,
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
            gWeight.values as Numbers,
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
  hidden: Numbers,
  weight: Numbers,
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

function logSumExp(x: Float64Array, at: number, n: number): number {
  let top = Number.NEGATIVE_INFINITY;
  for (let i = at; i < at + n; i++) top = Math.max(top, x[i]!);
  if (!Number.isFinite(top)) return top;
  let sum = 0;
  for (let i = at; i < at + n; i++) sum += Math.exp(x[i]! - top);
  return top + Math.log(sum);
}
