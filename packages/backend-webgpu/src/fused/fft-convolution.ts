import type { Buf, FftConvolutionDescriptor, FusedOps } from "@mamba-ts/backend";
import type { WebGpuBuf, WebGpuMemory } from "../storage.js";
import type { Transforms } from "./fft.js";

type Op = NonNullable<FusedOps["fftConvolution"]>;

/** Sequences that lie side by side: [outer, length, inner], each a row of its own while it is transformed. */
interface Sequences {
  readonly outer: number;
  readonly length: number;
  readonly inner: number;
}

interface Product {
  /** Of the result: rows are (i, columns, heads). */
  readonly rows: number;
  readonly columns: number;
  readonly sums: number;
  readonly conjugate: boolean;
  /** Steps between rows of the operands, along i, columns and what is summed. */
  readonly a: readonly [i: number, j: number, s: number];
  readonly b: readonly [i: number, j: number, s: number];
}

/** Convolution with kernels as long as the sequence, and its gradient, by transforms: see kernels/fft-convolution. */
export function fftConvolution(memory: WebGpuMemory, transforms: Transforms): Op {
  const { gpu } = memory;

  function spectra(x: WebGpuBuf, { outer, length, inner }: Sequences, size: number): WebGpuBuf {
    const rows = outer * inner;
    const padded = memory.alloc(rows * size, "float32");
    const params = { count: padded.count, length, inner, size };
    gpu.run("fft-convolution/pad", { x, y: padded }, params, { threads: padded.count });
    const bins = transforms.run(padded, { rows, n: size, inverse: false });
    memory.free(padded);
    return bins;
  }

  function samples(bins: WebGpuBuf, { outer, length, inner }: Sequences, size: number): WebGpuBuf {
    const rows = transforms.run(bins, { rows: outer * inner, n: size, inverse: true });
    const y = memory.alloc(outer * length * inner, "float32");
    gpu.run("fft-convolution/crop", { x: rows, y }, { count: y.count, length, inner, size }, { threads: y.count });
    memory.free(rows);
    return y;
  }

  function product(a: WebGpuBuf, b: WebGpuBuf, { heads, size }: FftConvolutionDescriptor, how: Product): WebGpuBuf {
    const bins = size / 2 + 1;
    const count = how.rows * bins;
    const y = memory.alloc(2 * count, "float32");
    const [a_i, a_j, a_s] = how.a;
    const [b_i, b_j, b_s] = how.b;
    const { columns, sums, conjugate } = how;
    const params = { count, bins, heads, columns, sums, conjugate: Number(conjugate), a_i, a_j, a_s, b_i, b_j, b_s };
    gpu.run("fft-convolution/product", { a, b, y }, params, { threads: count });
    return y;
  }

  const ofU = ({ batch, length, heads }: FftConvolutionDescriptor): Sequences => ({
    outer: batch,
    length,
    inner: heads,
  });
  const ofY = ({ batch, length, channels, heads }: FftConvolutionDescriptor): Sequences => ({
    outer: batch,
    length,
    inner: channels * heads,
  });
  const ofKernel = ({ channels, heads, taps }: FftConvolutionDescriptor): Sequences => ({
    outer: channels * heads,
    length: taps,
    inner: 1,
  });

  return {
    supports: ({ dtype, size, batch, channels, heads }) =>
      dtype === "float32" && heads > 0 && transforms.covers(size, Math.max(1, batch) * channels * heads),
    forward: (args, d) => {
      const { batch, channels, heads, size } = d;
      const u = spectra(memory.own(args.u.buf), ofU(d), size);
      const kernel = spectra(memory.own(args.kernel.buf), ofKernel(d), size);
      const all = product(u, kernel, d, {
        ...{ rows: batch * channels * heads, columns: channels, sums: 1, conjugate: false },
        ...{ a: [heads, 0, 0], b: [0, heads, 0] },
      });
      const y = samples(all, ofY(d), size);
      for (const buf of [u, kernel, all]) memory.free(buf);
      return { outputs: { y }, saved: [] };
    },
    backwardReads: () => ["u", "kernel"],
    backward: (args, d, _outputs, _saved, { y: gradY }, needs) => {
      const { batch, channels, heads, size } = d;
      const g = spectra(memory.own(gradY!.buf), ofY(d), size);
      const grads: { u?: Buf; kernel?: Buf } = {};
      if (needs.has("u")) {
        const kernel = spectra(memory.own(args.kernel.buf), ofKernel(d), size);
        const all = product(kernel, g, d, {
          ...{ rows: batch * heads, columns: 1, sums: channels, conjugate: true },
          ...{ a: [0, 0, heads], b: [channels * heads, 0, heads] },
        });
        grads.u = samples(all, ofU(d), size);
        for (const buf of [kernel, all]) memory.free(buf);
      }
      if (needs.has("kernel")) {
        const u = spectra(memory.own(args.u.buf), ofU(d), size);
        const all = product(u, g, d, {
          ...{ rows: channels * heads, columns: channels, sums: batch, conjugate: true },
          ...{ a: [0, 0, heads], b: [0, heads, channels * heads] },
        });
        grads.kernel = samples(all, ofKernel(d), size);
        for (const buf of [u, all]) memory.free(buf);
      }
      memory.free(g);
      return grads;
    },
  };
}
