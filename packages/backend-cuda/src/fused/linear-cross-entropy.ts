import type { Buf, FusedOps, LinearCrossEntropyDescriptor, Operand } from "@mamba-ts/backend";
import type { CudaDevice } from "../device.js";
import { fill } from "../elementwise.js";
import { i64, pointer } from "../launch.js";
import { type Matrix, product } from "../matmul.js";
import type { CudaBuf } from "../memory.js";
import { matrixOf } from "./linear.js";
import { kept, withDType } from "./shared.js";

type Op = NonNullable<FusedOps["linearCrossEntropy"]>;
type Args = Parameters<Op["forward"]>[0];
const FILE = "linear_cross_entropy";
/** No more logits than this exist at a time. */
const LOGIT_BYTES = 2 ** 28;

/** Whether the kernels that move 16 bytes at a time take the logits. */
function byQuads({ vocab, dtype }: LinearCrossEntropyDescriptor): boolean {
  return vocab % 4 === 0 && dtype !== "float64";
}

/** Calls `use` with the logits of a few rows at a time. */
function eachChunk(
  device: CudaDevice,
  args: Args,
  { rows, width, vocab, dtype }: LinearCrossEntropyDescriptor,
  use: (logits: CudaBuf, start: number, count: number, hidden: Matrix) => void,
): void {
  const type = kept(dtype);
  const step = Math.max(1, Math.min(rows, Math.floor(LOGIT_BYTES / (vocab * (type === "float64" ? 8 : 4)))));
  const logits = device.alloc(step * vocab, type);
  for (let start = 0; start < rows; start += step) {
    const count = Math.min(step, rows - start);
    const all = matrixOf(device, args.hidden);
    const hidden = { ...all, offset: all.offset + start * all.rowStride };
    const size = { m: count, n: vocab, k: width, batch: 1 };
    product(device, hidden, matrixOf(device, args.weight, true), logits, size);
    use(logits, start, count, hidden);
  }
  device.memory.free(logits);
}

function backward(
  device: CudaDevice,
  args: Args,
  d: LinearCrossEntropyDescriptor,
  logSums: CudaBuf,
  gLoss: Operand,
): { hidden: Buf; weight: Buf } {
  const { rows, width, vocab, dtype } = d;
  const [targets, up] = [device.own(args.targets), device.own(gLoss)];
  const gHidden = device.alloc(rows * width, dtype);
  const gWeight = fill(device, [vocab, width], 0, kept(dtype)) as CudaBuf;
  eachChunk(device, args, d, (logits, start, count, hidden) => {
    const g = device.alloc(count * vocab, dtype);
    const parameters = [logits, pointer(targets, start), pointer(logSums, start), pointer(up, start), g, i64(vocab)];
    if (byQuads(d)) device.launch(FILE, `cross_entropy_gradient_quads_${dtype}`, [count], [512], parameters);
    else device.launch(FILE, `cross_entropy_gradient_${dtype}`, [count], [256], parameters);
    const rowsOf = (transposed: boolean): Matrix => ({
      buf: g,
      offset: 0,
      rowStride: vocab,
      transposed,
      batchStride: 0,
    });
    const size = { m: count, n: width, k: vocab, batch: 1 };
    product(device, rowsOf(false), matrixOf(device, args.weight), gHidden, size, { yOffset: start * width });
    const back = { m: vocab, n: width, k: count, batch: 1 };
    product(device, rowsOf(true), hidden, gWeight, back, { accumulate: true });
    device.memory.free(g);
  });
  return { hidden: gHidden, weight: gWeight };
}

/** Logits of a few rows at a time by cuBLASLt, their sums and gradients by kernels of /kernels/linear-cross-entropy. */
export function linearCrossEntropy(device: CudaDevice): Op {
  return {
    // The gradient of the weight is summed over the chunks by the product itself.
    supports: ({ vocab, width }) => device.hasCublas && vocab > 0 && width > 0,
    forward(args, d, { save }) {
      if (args.weight.dtype !== d.dtype)
        return withDType(device, args.weight, d.dtype, (weight) => this.forward({ ...args, weight }, d, { save }));
      const type = kept(d.dtype);
      const loss = device.alloc(d.rows, type);
      const logSums = device.alloc(d.rows, type);
      const targets = device.own(args.targets);
      eachChunk(device, args, d, (logits, start, count) => {
        const parameters = [
          logits,
          pointer(targets, start),
          pointer(loss, start),
          pointer(logSums, start),
          i64(d.vocab),
        ];
        if (byQuads(d)) device.launch(FILE, "cross_entropy_quads_float32", [count], [512], parameters);
        else device.launch(FILE, `cross_entropy_${type}`, [count], [256], parameters);
      });
      if (save) return { outputs: { loss }, saved: [logSums] };
      device.memory.free(logSums);
      return { outputs: { loss }, saved: [] };
    },
    backward(args, d, _outputs, saved, gradOutputs, needs) {
      const all = Object.entries(
        withDType(device, args.weight, d.dtype, (weight) =>
          backward(device, { ...args, weight }, d, device.own(saved[0]!), gradOutputs.loss!),
        ),
      );
      for (const [name, buf] of all) if (!needs.has(name as never)) device.memory.free(buf);
      return Object.fromEntries(all.filter(([name]) => needs.has(name as never)));
    },
  };
}
