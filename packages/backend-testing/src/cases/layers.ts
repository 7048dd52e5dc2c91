import * as t from "@mamba-ts/tensor";
import { build, type OpCase } from "../case.js";
import { erf } from "./elementwise.js";

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
const silu = (x: number): number => x * sigmoid(x);

function normCase(kind: "rms" | "layer", shape: readonly number[], hasWeight: boolean, hasResidual: boolean): OpCase {
  const width = shape.at(-1)!;
  const eps = 1e-3;
  return {
    op: kind === "rms" ? "rmsNorm" : "layerNorm",
    name: `${kind} norm [${shape}]${hasWeight ? " weight" : ""}${hasResidual ? " residual" : ""}`,
    inputs: (r) => ({
      x: r.normal(shape),
      ...(hasWeight ? { weight: r.normal([width]) } : {}),
      ...(hasWeight && kind === "layer" ? { bias: r.normal([width]) } : {}),
      ...(hasResidual ? { residual: r.normal(shape) } : {}),
    }),
    run: ({ x, weight, bias, residual }) => {
      const { y, sum } =
        kind === "rms"
          ? t.rmsNorm({ x: x!, weight, residual, eps })
          : t.layerNorm({ x: x!, weight, bias, residual, eps });
      return hasResidual ? { y, sum } : { y };
    },
    oracle: ({ x, weight, bias, residual }) => {
      const s = Float64Array.from(x!, (v, i) => v + (residual?.[i] ?? 0));
      const y = s.map((v, i) => {
        const row = s.subarray(i - (i % width), i - (i % width) + width);
        const mean = kind === "rms" ? 0 : row.reduce((a, b) => a + b, 0) / width;
        const square = row.reduce((a, b) => a + (b - mean) ** 2, 0) / width;
        return ((v - mean) / Math.sqrt(square + eps)) * (weight?.[i % width] ?? 1) + (bias?.[i % width] ?? 0);
      });
      return hasResidual ? { y, sum: s } : { y };
    },
  };
}

function gatedCase(hasD: boolean, hasZ: boolean): OpCase {
  return {
    op: "gatedOutput",
    name: `gatedOutput${hasD ? " D" : ""}${hasZ ? " z" : ""}`,
    inputs: (r) => ({
      y: r.normal([2, 3, 5]),
      ...(hasD ? { x: r.normal([2, 3, 5]), D: r.normal([5]) } : {}),
      ...(hasZ ? { z: r.normal([2, 3, 5]) } : {}),
    }),
    run: ({ y, x, D, z }) => ({ out: t.gatedOutput({ y: y!, x, D, z }) }),
    oracle: ({ y, x, D, z }) => ({
      out: Float64Array.from(y!, (v, i) => (v + (hasD ? D![i % 5]! * x![i]! : 0)) * (hasZ ? silu(z![i]!) : 1)),
    }),
  };
}

function crossEntropyCase(rows: number, width: number, vocab: number): OpCase {
  return {
    op: "linearCrossEntropy",
    name: `linearCrossEntropy ${rows} rows of ${width}, vocabulary ${vocab}, ignored targets among them`,
    inputs: (r) => ({
      hidden: r.normal([rows, width]),
      weight: r.normal([vocab, width]),
      targets: r.integers([rows], -1, vocab),
    }),
    run: ({ hidden, weight, targets }) => ({ loss: t.linearCrossEntropy(hidden!, weight!, targets!) }),
    oracle: ({ hidden, weight, targets }) => ({
      loss: build([rows], ([i]) => {
        const target = targets![i!]!;
        if (target < 0) return 0;
        const logits = Array.from({ length: vocab }, (_, v) => {
          let sum = 0;
          for (let j = 0; j < width; j++) sum += hidden![i! * width + j]! * weight![v * width + j]!;
          return sum;
        });
        const top = Math.max(...logits);
        return top + Math.log(logits.reduce((a, l) => a + Math.exp(l - top), 0)) - logits[target]!;
      }),
    }),
  };
}

interface AttentionOptions {
  readonly queries: number;
  readonly keys: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly causal: boolean;
  readonly segments?: { readonly query: readonly number[]; readonly key: readonly number[] };
}

function attentionCase({ queries, keys, heads, kvHeads, causal, segments }: AttentionOptions): OpCase {
  const [batch, headDim] = [2, 3];
  return {
    op: "attention",
    name: `attention ${queries} queries ${keys} keys ${heads}/${kvHeads} heads${causal ? " causal" : ""}${segments === undefined ? "" : " segments"}`,
    inputs: (r) => ({
      q: r.normal([batch, queries, heads, headDim]),
      k: r.normal([batch, keys, kvHeads, headDim]),
      v: r.normal([batch, keys, kvHeads, headDim]),
      ...(segments === undefined
        ? {}
        : {
            querySegments: { shape: [batch, queries], data: Int32Array.from(segments.query) },
            keySegments: { shape: [batch, keys], data: Int32Array.from(segments.key) },
          }),
    }),
    run: (args) => ({ y: t.attention({ ...(args as unknown as Parameters<typeof t.attention>[0]), causal }) }),
    oracle: ({ q, k, v, querySegments, keySegments }) => ({
      y: build([batch, queries, heads, headDim], ([b, i, h, e]) => {
        const kv = Math.floor(h! / (heads / kvHeads));
        let [total, sum] = [0, 0];
        for (let j = 0; j < keys; j++) {
          if (causal && j > i! + keys - queries) continue;
          const id = querySegments?.[b! * queries + i!] ?? 0;
          if (id < 0 || id !== (keySegments?.[b! * keys + j] ?? 0)) continue;
          let score = 0;
          for (let d = 0; d < headDim; d++)
            score +=
              q![((b! * queries + i!) * heads + h!) * headDim + d]! *
              k![((b! * keys + j) * kvHeads + kv) * headDim + d]!;
          const weight = Math.exp(score / Math.sqrt(headDim));
          total += weight;
          sum += weight * v![((b! * keys + j) * kvHeads + kv) * headDim + e!]!;
        }
        return total === 0 ? 0 : sum / total;
      }),
    }),
  };
}

function moeCase(
  tokens: number,
  experts: number,
  topK: number,
  gated: boolean,
  activation: "relu" | "silu",
  dropped: boolean,
): OpCase {
  const [width, hidden] = [3, 4];
  return {
    op: "moe",
    name: `moe ${tokens} tokens ${experts} experts top ${topK} ${activation}${gated ? " gated" : ""}${dropped ? " some dropped" : ""}`,
    inputs: (r) => {
      // Distinct experts per token.
      const first = r.integers([tokens], 0, experts).data;
      const ids = Int32Array.from(
        { length: tokens * topK },
        (_, i) => (first[Math.floor(i / topK)]! + (i % topK)) % experts,
      );
      if (dropped) for (let i = 0; i < ids.length; i += 3) ids[i] = -1;
      return {
        x: r.normal([tokens, width]),
        indices: { shape: [tokens, topK], data: ids },
        weights: r.uniform([tokens, topK], 0.1, 1),
        ...(gated ? { gate: r.normal([experts, hidden, width]) } : {}),
        up: r.normal([experts, hidden, width]),
        down: r.normal([experts, width, hidden]),
      };
    },
    run: ({ x, indices, weights, gate, up, down }) => ({
      y: t.moe({ x: x!, indices: indices!, weights: weights!, gate, up: up!, down: down!, activation }),
    }),
    oracle: ({ x, indices, weights, gate, up, down }) => {
      const act = activation === "relu" ? (u: number) => Math.max(0, u) : silu;
      const y = new Float64Array(tokens * width);
      for (let c = 0; c < tokens * topK; c++) {
        const e = indices![c]!;
        if (e < 0) continue;
        const i = Math.floor(c / topK);
        const project = (w: ArrayLike<number>, h: number): number => {
          let sum = 0;
          for (let j = 0; j < width; j++) sum += w[(e * hidden + h) * width + j]! * x![i * width + j]!;
          return sum;
        };
        for (let h = 0; h < hidden; h++) {
          const inner = gate === undefined ? act(project(up!, h)) : act(project(gate, h)) * project(up!, h);
          for (let j = 0; j < width; j++)
            y[i * width + j]! += weights![c]! * down![(e * width + j) * hidden + h]! * inner;
        }
      }
      return { y };
    },
  };
}

function fftCases(n: number): OpCase[] {
  const bins = Math.floor(n / 2) + 1;
  // Angles 2 pi j k / n, by j k modulo n.
  const cos = Float64Array.from({ length: n }, (_, i) => Math.cos((2 * Math.PI * i) / n));
  const sin = Float64Array.from({ length: n }, (_, i) => Math.sin((2 * Math.PI * i) / n));
  return [
    {
      op: "fft",
      name: `rfft ${n}`,
      inputs: (r) => ({ x: r.normal([2, n]) }),
      run: ({ x }) => ({ y: t.rfft(x!) }),
      oracle: ({ x }) => ({
        y: build([2, bins, 2], ([i, k, part]) => {
          const wave = part === 0 ? cos : sin;
          let sum = 0;
          for (let j = 0; j < n; j++) sum += x![i! * n + j]! * wave[(j * k!) % n]!;
          return part === 0 ? sum : -sum;
        }),
      }),
    },
    {
      op: "fft",
      name: `irfft ${n}`,
      inputs: (r) => ({ y: r.normal([2, bins, 2]) }),
      run: ({ y }) => ({ x: t.irfft(y!, n) }),
      oracle: ({ y }) => ({
        x: build([2, n], ([i, j]) => {
          let sum = 0;
          for (let k = 0; k < bins; k++) {
            const count = k === 0 || 2 * k === n ? 1 : 2;
            const at = (j! * k) % n;
            const imaginary = count === 1 ? 0 : y![(i! * bins + k) * 2 + 1]!;
            sum += count * (y![(i! * bins + k) * 2]! * cos[at]! - imaginary * sin[at]!);
          }
          return sum / n;
        }),
      }),
    },
  ];
}

function activationCase(kind: "gelu" | "glu", shape: readonly number[]): OpCase {
  const width = shape.at(-1)! / 2;
  return {
    op: "activation",
    name: `${kind} [${shape}]`,
    inputs: (r) => ({ x: r.normal(shape) }),
    run: ({ x }) => ({ y: kind === "gelu" ? t.gelu(t.mul(x!, 2)) : t.glu(x!) }),
    oracle: ({ x }) => ({
      y:
        kind === "gelu"
          ? Float64Array.from(x!, (v) => v * (1 + erf(v * Math.SQRT2)))
          : Float64Array.from({ length: x!.length / 2 }, (_, i) => {
              const at = 2 * (i - (i % width)) + (i % width);
              return x![at]! * sigmoid(x![at + width]!);
            }),
    }),
  };
}

/** Causal, with fewer taps than samples, circular, and of many channels; sizes that need every kind of transform. */
function fftConvolutionCase(
  [batch, length, heads]: readonly [number, number, number],
  [channels, taps]: readonly [number, number],
  size?: number,
): OpCase {
  const period = size ?? t.fastFftLength(length + taps - 1);
  return {
    op: "fftConvolution",
    name: `fftConvolution [${[batch, length, heads]}], ${channels} kernels of ${taps} taps a head${size === undefined ? "" : `, circular in ${size}`}`,
    inputs: (r) => ({ u: r.normal([batch, length, heads]), kernel: r.normal([channels, heads, taps]) }),
    run: ({ u, kernel }) => ({ y: t.fftConvolution(u!, kernel!, size === undefined ? {} : { size }) }),
    oracle: ({ u, kernel }) => ({
      y: build([batch, length, channels, heads], ([b, i, c, h]) => {
        let sum = 0;
        for (let s = 0; s < length; s++) {
          const tap = (i! - s + period) % period;
          if (tap < taps) sum += kernel![(c! * heads + h!) * taps + tap]! * u![(b! * length + s) * heads + h!]!;
        }
        return sum;
      }),
    }),
  };
}

export const layerCases: readonly OpCase[] = [
  ...(["rms", "layer"] as const).flatMap((kind) => [
    normCase(kind, [3, 7], true, false),
    normCase(kind, [2, 2, 5], true, true),
    normCase(kind, [4, 1], false, true),
    normCase(kind, [1, 65], false, false),
  ]),
  gatedCase(true, true),
  gatedCase(true, false),
  gatedCase(false, true),
  crossEntropyCase(7, 4, 11),
  crossEntropyCase(1, 3, 2),
  attentionCase({ queries: 5, keys: 5, heads: 4, kvHeads: 2, causal: true }),
  attentionCase({ queries: 1, keys: 6, heads: 2, kvHeads: 1, causal: true }),
  attentionCase({ queries: 3, keys: 4, heads: 3, kvHeads: 3, causal: false }),
  attentionCase({
    queries: 4,
    keys: 4,
    heads: 2,
    kvHeads: 2,
    causal: true,
    segments: { query: [-1, 0, 0, 1, 2, 2, -1, 2], key: [-1, 0, 0, 1, 2, 2, -1, 2] },
  }),
  moeCase(9, 4, 1, false, "relu", true),
  moeCase(10, 3, 2, true, "silu", false),
  moeCase(70, 2, 2, true, "silu", true),
  moeCase(1, 5, 2, false, "silu", false),
  ...[1, 2, 7, 12, 42, 65, 67, 128, 130, 180].flatMap(fftCases),
  activationCase("gelu", [3, 7]),
  activationCase("gelu", [1, 2, 65]),
  activationCase("glu", [3, 14]),
  activationCase("glu", [2, 1, 130]),
  fftConvolutionCase([2, 5, 3], [1, 5]),
  fftConvolutionCase([3, 17, 6], [2, 9]),
  fftConvolutionCase([1, 1, 1], [1, 1]),
  fftConvolutionCase([2, 11, 5], [3, 11]),
  fftConvolutionCase([2, 6, 4], [1, 14], 14),
  fftConvolutionCase([1, 20, 9], [2, 22], 22),
  fftConvolutionCase([2, 30, 2], [1, 58], 58),
];
