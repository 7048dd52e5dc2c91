import * as t from "@mamba-ts/tensor";
import type { HostTensor, OpCase, RandomInputs } from "./case.js";

/** An operation at a size at which time matters, and the work that nobody can avoid in it. */
export interface BenchCase extends Pick<OpCase, "op" | "name" | "inputs" | "run"> {
  readonly multiplyAdds?: number;
  readonly exps?: number;
}

const [BATCH, LENGTH, WIDTH, INNER, STATES, VOCAB] = [2, 256, 128, 256, 16, 1024] as const;
const ROWS = BATCH * LENGTH;

const scanInputs = (r: RandomInputs, length: number): { readonly [name: string]: HostTensor } => ({
  x: r.normal([BATCH, length, INNER]),
  delta: r.normal([BATCH, length, INNER]),
  A: r.uniform([INNER, STATES], -2, -0.2),
  B: r.normal([BATCH, length, STATES]),
  C: r.normal([BATCH, length, STATES]),
  D: r.normal([INNER]),
  z: r.normal([BATCH, length, INNER]),
  deltaBias: r.uniform([INNER], -5, -2),
  initialState: r.normal([BATCH, INNER, STATES]),
});

/** The operations of a Mamba of a few hundred thousand parameters, and attention and experts beside them. */
export const benchCases: readonly BenchCase[] = [
  {
    op: "matmul",
    name: `[${ROWS}, ${WIDTH}] [${WIDTH}, ${2 * INNER}]`,
    inputs: (r) => ({ a: r.normal([ROWS, WIDTH]), b: r.normal([WIDTH, 2 * INNER]) }),
    run: ({ a, b }) => ({ y: t.matmul(a!, b!) }),
    multiplyAdds: ROWS * WIDTH * 2 * INNER,
  },
  {
    op: "linear",
    name: `${ROWS} rows, ${WIDTH} to ${2 * INNER}`,
    inputs: (r) => ({ x: r.normal([ROWS, WIDTH]), w: r.normal([2 * INNER, WIDTH]) }),
    run: ({ x, w }) => ({ y: t.linear(x!, w!) }),
    multiplyAdds: ROWS * WIDTH * 2 * INNER,
  },
  ...[LENGTH, 1].map(
    (length): BenchCase => ({
      op: "selectiveScan",
      name: `${BATCH} x ${length} x ${INNER}, dState ${STATES}`,
      inputs: (r) => scanInputs(r, length),
      run: (args) => ({ ...t.selectiveScan({ ...(args as never as t.SelectiveScanArguments), softplus: true }) }),
      exps: BATCH * length * INNER * STATES,
    }),
  ),
  {
    op: "causalConv1d",
    name: `${BATCH} x ${LENGTH} x ${INNER}, width 4, SiLU`,
    inputs: (r) => ({ x: r.normal([BATCH, LENGTH, INNER]), weight: r.normal([INNER, 4]), bias: r.normal([INNER]) }),
    run: ({ x, weight, bias }) => ({ ...t.causalConv1d({ x: x!, weight: weight!, bias, activation: "silu" }) }),
    exps: ROWS * INNER,
  },
  ...([t.rmsNorm, t.layerNorm] as const).map(
    (norm): BenchCase => ({
      op: norm === t.rmsNorm ? "rmsNorm" : "layerNorm",
      name: `${ROWS} rows of ${WIDTH}, residual`,
      inputs: (r) => ({ x: r.normal([ROWS, WIDTH]), residual: r.normal([ROWS, WIDTH]), weight: r.normal([WIDTH]) }),
      run: ({ x, residual, weight }) => ({ ...norm({ x: x!, residual, weight, eps: 1e-5 }) }),
    }),
  ),
  {
    op: "gatedOutput",
    name: `${ROWS} rows of ${INNER}`,
    inputs: (r) => ({
      y: r.normal([ROWS, INNER]),
      x: r.normal([ROWS, INNER]),
      D: r.normal([INNER]),
      z: r.normal([ROWS, INNER]),
    }),
    run: ({ y, x, D, z }) => ({ out: t.gatedOutput({ y: y!, x, D, z }) }),
    exps: ROWS * INNER,
  },
  {
    op: "linearCrossEntropy",
    name: `${ROWS} rows of ${WIDTH}, vocabulary ${VOCAB}`,
    inputs: (r) => ({
      hidden: r.normal([ROWS, WIDTH]),
      weight: r.normal([VOCAB, WIDTH], 0.1),
      targets: r.integers([ROWS], 0, VOCAB),
    }),
    run: ({ hidden, weight, targets }) => ({ loss: t.linearCrossEntropy(hidden!, weight!, targets!) }),
    multiplyAdds: ROWS * WIDTH * VOCAB,
    exps: ROWS * VOCAB,
  },
  {
    op: "attention",
    name: `${BATCH} x ${LENGTH}, 4 heads of 32 over 2, causal`,
    inputs: (r) => ({
      q: r.normal([BATCH, LENGTH, 4, 32]),
      k: r.normal([BATCH, LENGTH, 2, 32]),
      v: r.normal([BATCH, LENGTH, 2, 32]),
    }),
    run: ({ q, k, v }) => ({ y: t.attention({ q: q!, k: k!, v: v!, causal: true }) }),
    multiplyAdds: BATCH * 4 * LENGTH * (LENGTH + 1) * 32,
    exps: (BATCH * 4 * LENGTH * (LENGTH + 1)) / 2,
  },
  {
    op: "moe",
    name: `${ROWS} tokens of ${WIDTH}, 2 of 8 experts of ${INNER}`,
    inputs: (r) => ({
      x: r.normal([ROWS, WIDTH]),
      indices: {
        shape: [ROWS, 2],
        data: Int32Array.from({ length: 2 * ROWS }, (_, i) => (3 * (i >> 1) + (i & 1)) % 8),
      },
      weights: r.uniform([ROWS, 2], 0.1, 1),
      gate: r.normal([8, INNER, WIDTH], 0.1),
      up: r.normal([8, INNER, WIDTH], 0.1),
      down: r.normal([8, WIDTH, INNER], 0.1),
    }),
    run: ({ x, indices, weights, gate, up, down }) => ({
      y: t.moe({ x: x!, indices: indices!, weights: weights!, gate, up: up!, down: down!, activation: "silu" }),
    }),
    multiplyAdds: 2 * ROWS * 3 * WIDTH * INNER,
  },
  {
    op: "fft",
    name: "64 rows of 2048",
    inputs: (r) => ({ x: r.normal([64, 2048]) }),
    run: ({ x }) => ({ y: t.rfft(x!) }),
  },
  {
    op: "fftConvolution",
    name: `${BATCH} x 1024 x ${WIDTH}, kernels as long`,
    inputs: (r) => ({ u: r.normal([BATCH, 1024, WIDTH]), kernel: r.normal([1, WIDTH, 1024]) }),
    run: ({ u, kernel }) => ({ y: t.fftConvolution(u!, kernel!) }),
    // Two transforms of 2048 a sequence and one a kernel, 2.5 n log2 n operations each.
    multiplyAdds: (2 * BATCH + 1) * WIDTH * 1.25 * 2048 * 11,
  },
  {
    op: "activation",
    name: `GELU, ${ROWS} rows of ${INNER}`,
    inputs: (r) => ({ x: r.normal([ROWS, INNER]) }),
    run: ({ x }) => ({ y: t.gelu(x!) }),
    exps: ROWS * INNER,
  },
];
