import type { Buf, FusedOps } from "@mamba-ts/backend";
import { type Call, operation } from "../runtime/call.js";
import type { WasmMemory } from "../runtime/memory.js";

type Fft = NonNullable<FusedOps["fft"]>;
type Convolution = NonNullable<FusedOps["fftConvolution"]>;
type ConvolutionArgs = Parameters<Convolution["forward"]>[0];
type ConvolutionDescriptor = Parameters<Convolution["forward"]>[1];

/** What kernels/common/fft.h calls RealFft, without its addresses. */
interface Plan {
  readonly n: number;
  /** Of the complex transform: n / 2 where n is even. */
  readonly length: number;
  /** Of Bluestein's convolution; 0 where `length` has no prime factors above 7. */
  readonly padded: number;
  /** Roots of n; with Bluestein, then the chirp and the roots of `padded`. */
  readonly tables: Float32Array;
}

/** A model transforms few lengths again and again. */
const plans = new Map<number, Plan>();
const MOST_PLANS = 8;
/** All work arrays together. */
const WORK_BYTES = 2 ** 26;

function planOf(n: number): Plan {
  const known = plans.get(n);
  if (known !== undefined) return known;
  const length = n % 2 === 0 ? n / 2 : n;
  const padded = isSmooth(length) ? 0 : 2 ** Math.ceil(Math.log2(2 * length - 1));
  const turns = padded === 0 ? n : n + length + padded;
  const tables = new Float32Array(2 * turns);
  const rotate = (at: number, count: number, turn: (k: number) => number): number => {
    for (let k = 0; k < count; k++) {
      tables[2 * (at + k)] = Math.cos(2 * Math.PI * turn(k));
      tables[2 * (at + k) + 1] = -Math.sin(2 * Math.PI * turn(k));
    }
    return at + count;
  };
  let at = rotate(0, n, (k) => k / n);
  if (padded > 0) {
    at = rotate(at, length, (k) => ((k * k) % (2 * length)) / (2 * length));
    rotate(at, padded, (k) => k / padded);
  }
  if (plans.size >= MOST_PLANS) plans.clear();
  const plan = { n, length, padded, tables };
  plans.set(n, plan);
  return plan;
}

function isSmooth(n: number): boolean {
  let rest = n;
  for (const p of [2, 3, 5, 7]) while (rest > 1 && rest % p === 0) rest /= p;
  return rest === 1;
}

/** The plan's seven words, and the work arrays of as many items side by side as there is room for. */
function prepare(call: Call, plan: Plan, items: number, binsPerSlot: number) {
  const { n, length, padded, tables } = plan;
  const roots = call.scratch(tables.length);
  const chirp = roots + 8 * n;
  const plain = [n, length, padded, roots, chirp, chirp + 8 * length];
  const perSlot = 2 * (padded || length) + binsPerSlot * binsOf(n); // complex numbers in four lanes: 32 bytes
  const fitting = Math.floor(WORK_BYTES / (32 * perSlot));
  const slots = Math.max(1, Math.min(items, 4 * call.memory.engine.threads, fitting));
  const work = call.scratch(8 * perSlot * slots);
  const words = [...plain, padded === 0 ? 0 : call.scratch(2 * padded)];
  // After the last allocation: memory that grows is another array.
  const upload = (): void =>
    call.memory.engine.write(roots, new Uint8Array(tables.buffer, tables.byteOffset, tables.byteLength));
  return { words, slots, work, upload };
}

function binsOf(n: number): number {
  return Math.floor(n / 2) + 1;
}

/** Real Fourier transforms of any length, in float32; see kernels/fft. */
export function fft(memory: WasmMemory): Fft {
  const run = (x: Parameters<Fft["forward"]>[0]["x"], rows: number, n: number, inverse: boolean, scales: number[]) =>
    operation(memory, (call) => {
      const y = call.alloc(rows * (inverse ? n : 2 * binsOf(n)), "float32");
      const { words, slots, work, upload } = prepare(call, planOf(n), Math.ceil(rows / 4), 1);
      upload();
      const [edge, inner] = scales as [number, number];
      call.kernels.fft(y.at, call.at(x), memory.words([...words, rows, inverse ? 1 : 0, slots, work]), edge, inner);
      return y;
    });
  return {
    supports: ({ dtype }) => dtype === "float32",
    forward: ({ x }, { rows, n, inverse }) => ({
      outputs: { y: run(x, rows, n, inverse, inverse ? [1 / n, 1 / n] : [1, 1]) },
      saved: [],
    }),
    // The other direction, bins weighted by how often they stand for the whole spectrum: twice between the ends.
    backward: (_args, { rows, n, inverse }, _outputs, _saved, { y }) => ({
      x: run(y!, rows, n, !inverse, inverse ? [1 / n, 2 / n] : [1, 0.5]),
    }),
  };
}

/** The convolution's words, and how to upload its tables. */
function convolution(call: Call, { u, kernel }: ConvolutionArgs, d: ConvolutionDescriptor, backward: boolean) {
  const { batch, length, channels, heads, taps, size } = d;
  const quads = Math.ceil(heads / 4);
  const items = backward ? quads : Math.max(batch, channels) * quads;
  const { words, slots, work, upload } = prepare(call, planOf(size), items, backward ? 3 + channels : 2);
  const spectra = call.scratch(8 * channels * quads * binsOf(size));
  const operands = [call.at(u), u.rowStride, call.at(kernel)];
  return {
    words: [...words, batch, length, channels, heads, taps, ...operands, slots, work, spectra],
    upload,
  };
}

/** Convolution with long kernels by transforms in the cache, in float32; see kernels/fft-convolution. */
export function fftConvolution(memory: WasmMemory): Convolution {
  return {
    supports: ({ dtype }) => (dtype === "float32" ? { strided: ["u"] } : false),
    forward: (args, d) =>
      operation(memory, (call) => {
        const y = call.alloc(d.batch * d.length * d.channels * d.heads, "float32");
        const { words, upload } = convolution(call, args, d, false);
        upload();
        call.kernels.fft_convolution(y.at, memory.words(words));
        return { outputs: { y }, saved: [] };
      }),
    backward: (args, d, _outputs, _saved, { y: gradY }, needs) =>
      operation(memory, (call) => {
        const grads: { [name: string]: Buf } = {};
        const gradient = (name: "u" | "kernel", count: number): number => {
          if (!needs.has(name)) return 0;
          const grad = call.alloc(count, "float32");
          grads[name] = grad;
          return grad.at;
        };
        const gu = gradient("u", d.batch * d.length * d.heads);
        const gk = gradient("kernel", d.channels * d.heads * d.taps);
        const { words, upload } = convolution(call, args, d, true);
        upload();
        call.kernels.fft_convolution_backward(gu, gk, call.at(gradY!), memory.words(words));
        return grads;
      }),
  };
}
