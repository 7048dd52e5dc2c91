import type { Buf, FusedOps } from "@mamba-ts/backend";
import { multiply } from "../primitives/matmul.js";
import { threadsFor } from "../shapes.js";
import type { WebGpuBuf, WebGpuMemory } from "../storage.js";
import { inFloat32 } from "./linear.js";

type Op = NonNullable<FusedOps["linearCrossEntropy"]>;

/** Logits of so many bytes exist at a time. */
const LOGITS_BYTES = 2 ** 26;

/** Calls `use` with the logits of a few rows at a time. */
function overRows(
  memory: WebGpuMemory,
  hidden: WebGpuBuf,
  weight: WebGpuBuf,
  { rows, width, vocab }: { readonly rows: number; readonly width: number; readonly vocab: number },
  use: (logits: WebGpuBuf, first: number, count: number) => void,
): void {
  const most = Math.min(LOGITS_BYTES, memory.gpu.maxBufferBytes);
  const step = Math.max(1, Math.min(rows, Math.floor(most / 4 / vocab)));
  for (let first = 0; first < rows; first += step) {
    const count = Math.min(step, rows - first);
    const logits = memory.alloc(count * vocab, "float32");
    multiply(memory, {
      a: { buf: hidden, start: first * width, row: width, col: 1 },
      b: { buf: weight, row: 1, col: width },
      y: { buf: logits, row: vocab },
      ...{ m: count, n: vocab, k: width },
    });
    use(logits, first, count);
    memory.free(logits);
  }
}

/** Cross-entropy of a linear head, its logits made, used and forgotten: see kernels/linear-cross-entropy. */
export function linearCrossEntropy(memory: WebGpuMemory): Op {
  return {
    supports: ({ dtype, vocab }) => dtype === "float32" && vocab > 0,
    forward: (args, d, { save }) => {
      const weight = inFloat32(memory, args.weight);
      const targets = memory.own(args.targets.buf);
      const loss = memory.alloc(d.rows, "float32");
      const log_sums = memory.alloc(d.rows, "float32");
      overRows(memory, memory.own(args.hidden.buf), weight.buf, d, (logits, first, count) => {
        const params = { rows: count, vocab: d.vocab, first };
        memory.gpu.run("linear-cross-entropy/loss", { logits, targets, loss, log_sums }, params, {
          constants: { THREADS: threadsFor(d.vocab) },
          groups: count,
        });
      });
      weight.done();
      if (!save) memory.free(log_sums);
      return { outputs: { loss }, saved: save ? [log_sums as Buf] : [] };
    },
    backward: (args, d, _outputs, saved, { loss: gradLoss }, needs) => {
      const { rows, width, vocab } = d;
      const hidden = memory.own(args.hidden.buf);
      const weight = inFloat32(memory, args.weight);
      const log_sums = memory.own(saved[0]!);
      const [targets, gloss] = [memory.own(args.targets.buf), memory.own(gradLoss!.buf)];
      const gHidden = needs.has("hidden") ? memory.alloc(rows * width, "float32") : undefined;
      const gWeight = needs.has("weight") ? memory.alloc(vocab * width, "float32") : undefined;
      if (gWeight !== undefined && rows === 0)
        memory.gpu.run(
          "fill/fill",
          { y: gWeight },
          { start: 0, count: gWeight.count, word: 0 },
          { threads: gWeight.count },
        );
      overRows(memory, hidden, weight.buf, d, (logits, first, count) => {
        const params = { count: count * vocab, vocab, first };
        const threads = params.count;
        memory.gpu.run("linear-cross-entropy/gradient", { targets, log_sums, gloss, logits }, params, { threads });
        if (gHidden !== undefined)
          multiply(memory, {
            a: { buf: logits, row: vocab, col: 1 },
            b: { buf: weight.buf, row: width, col: 1 },
            y: { buf: gHidden, start: first * width, row: width },
            ...{ m: count, n: width, k: vocab },
          });
        if (gWeight !== undefined)
          multiply(memory, {
            a: { buf: logits, row: 1, col: vocab },
            b: { buf: hidden, start: first * width, row: width, col: 1 },
            y: { buf: gWeight, row: width },
            ...{ m: vocab, n: width, k: count, accumulates: first > 0 },
          });
      });
      weight.done();
      return {
        ...(gHidden === undefined ? {} : { hidden: gHidden }),
        ...(gWeight === undefined ? {} : { weight: gWeight }),
      };
    },
  };
}
