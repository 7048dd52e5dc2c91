import type { Buf, FusedOps } from "@mamba-ts/backend";
import { operation } from "../runtime/call.js";
import type { WasmMemory } from "../runtime/memory.js";
import { weightOf } from "./linear.js";

/** Logits of about so many numbers exist at a time. */
const BLOCK = 2 ** 20;
/** At least so many rows share one packing of the weight. */
const LEAST_ROWS = 96;

function rowsPerBlock(rows: number, vocab: number): number {
  return Math.max(1, Math.min(rows, Math.max(LEAST_ROWS, Math.floor(BLOCK / Math.max(1, vocab)))));
}

/** Cross-entropy of a linear head; logits are made, used and forgotten some rows at a time. See kernels/linear-cross-entropy. */
export function linearCrossEntropy(memory: WasmMemory): NonNullable<FusedOps["linearCrossEntropy"]> {
  return {
    supports: ({ dtype }) => dtype === "float32",
    forward: (args, { rows, width, vocab }, { save }) =>
      operation(memory, (call) => {
        const [hidden, targets, weight] = [call.at(args.hidden), call.at(args.targets), weightOf(call, args.weight)];
        const loss = call.alloc(rows, "float32");
        // The backward pass turns logits into probabilities with what the forward pass found.
        const logSums = save ? call.alloc(rows, "float32") : undefined;
        const step = rowsPerBlock(rows, vocab);
        const logits = call.scratch(step * vocab);
        for (let r = 0; r < rows; r += step) {
          const n = Math.min(step, rows - r);
          call.kernels.gemm(hidden + 4 * r * width, width, 1, ...weight, logits, vocab, n, vocab, width, 0, 0);
          const sums = logSums === undefined ? 0 : logSums.at + 4 * r;
          call.kernels.cross_entropy(loss.at + 4 * r, sums, logits, targets + 4 * r, n, vocab);
        }
        return { outputs: { loss }, saved: logSums === undefined ? [] : [logSums] };
      }),
    backward: (args, { rows, width, vocab }, _outputs, saved, { loss: gradLoss }, needs) =>
      operation(memory, (call) => {
        const [hidden, targets, g] = [call.at(args.hidden), call.at(args.targets), call.at(gradLoss!)];
        const [weight, logSums] = [call.numbers(args.weight), memory.own(saved[0]!).at];
        const gHidden = needs.has("hidden") ? call.alloc(rows * width, "float32") : undefined;
        const gWeight = needs.has("weight") ? call.alloc(vocab * width, "float32") : undefined;
        if (gWeight !== undefined && rows === 0) memory.engine.fill(gWeight.at, gWeight.bytes, 0);
        const step = rowsPerBlock(rows, vocab);
        const logits = call.scratch(step * vocab);
        for (let r = 0; r < rows; r += step) {
          const n = Math.min(step, rows - r);
          const own = hidden + 4 * r * width;
          call.kernels.gemm(own, width, 1, weight, 1, width, 0, logits, vocab, n, vocab, width, 0, 0);
          call.kernels.cross_entropy_backward(logits, targets + 4 * r, g + 4 * r, logSums + 4 * r, n, vocab);
          if (gHidden !== undefined)
            call.kernels.gemm(
              ...([logits, vocab, 1, weight, width, 1, 0] as const),
              ...([gHidden.at + 4 * r * width, width, n, width, vocab, 0, 0] as const),
            );
          if (gWeight !== undefined)
            call.kernels.gemm(
              ...([logits, 1, vocab, own, width, 1, 0] as const),
              ...([gWeight.at, width, vocab, width, n, r > 0 ? 1 : 0, 0] as const),
            );
        }
        const grads: { [K in "hidden" | "weight"]?: Buf } = {};
        if (gHidden !== undefined) grads.hidden = gHidden;
        if (gWeight !== undefined) grads.weight = gWeight;
        return grads;
      }),
  };
}
