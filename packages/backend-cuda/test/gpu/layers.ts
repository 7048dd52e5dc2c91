/**
 * Attention and experts at sizes and in dtypes that the conformance suite is too slow for, outputs and gradients, against the compositions of
 * `backend-cpu` in float64 on the same rounded numbers; then their times.
 */
import type { FloatDType } from "@mamba-ts/backend";
import { createBackend as createOracle } from "@mamba-ts/backend-cpu";
import { attention, cast, fromHost, moe, Rng, scope, type Tensor, vjp } from "@mamba-ts/tensor";
import { createBackend } from "../../src/index.js";

type Tensors = { [name: string]: Tensor };
interface Case {
  readonly name: string;
  readonly shapes: { readonly [name: string]: readonly number[] };
  readonly ints?: { readonly [name: string]: { shape: readonly number[]; data: Int32Array } };
  readonly run: (t: Tensors) => Tensor;
}

const nativeFolder = process.env["MAMBA_TS_CUDA_NATIVE"];
const backend = await createBackend({ poison: true, ...(nativeFolder === undefined ? {} : { nativeFolder }) });
const oracle = await createOracle({ fused: {} });

function attentionCase(
  b: number,
  queries: number,
  keys: number,
  heads: number,
  kvHeads: number,
  headDim: number,
  segments = false,
): Case {
  const ids = (n: number) => Int32Array.from({ length: b * n }, (_, i) => (i % n < 3 ? -1 : Math.floor((i % n) / 50)));
  return {
    name: `attention ${b} x ${queries} of ${keys}, ${heads}/${kvHeads} x ${headDim}${segments ? ", segments" : ""}`,
    shapes: { q: [b, queries, heads, headDim], k: [b, keys, kvHeads, headDim], v: [b, keys, kvHeads, headDim] },
    ...(segments
      ? {
          ints: {
            querySegments: { shape: [b, queries], data: ids(queries) },
            keySegments: { shape: [b, keys], data: ids(keys) },
          },
        }
      : {}),
    run: (t) => attention(t as never),
  };
}

function moeCase(
  tokens: number,
  width: number,
  hidden: number,
  experts: number,
  topK: number,
  gated: boolean,
  dropEvery = 0,
): Case {
  const rng = new Rng(5);
  const noise = rng.normal(tokens * experts);
  const indices = new Int32Array(tokens * topK);
  for (let i = 0; i < tokens; i++) {
    const order = Array.from({ length: experts }, (_, e) => e).sort(
      (p, q) => noise[i * experts + q]! - noise[i * experts + p]!,
    );
    for (let j = 0; j < topK; j++) indices[i * topK + j] = dropEvery > 0 && (i + j) % dropEvery === 0 ? -1 : order[j]!;
  }
  return {
    name: `moe ${tokens} x ${width} x ${hidden}, ${experts} experts, top ${topK}${gated ? ", gated" : ""}${dropEvery > 0 ? ", some dropped" : ""}`,
    shapes: {
      x: [tokens, width],
      weights: [tokens, topK],
      up: [experts, hidden, width],
      down: [experts, width, hidden],
      ...(gated ? { gate: [experts, hidden, width] } : {}),
    },
    ints: { indices: { shape: [tokens, topK], data: indices } },
    run: (t) => moe({ ...t, activation: gated ? "silu" : "gelu" } as never),
  };
}

const cases: Case[] = [
  attentionCase(2, 77, 77, 4, 2, 40),
  attentionCase(1, 130, 200, 6, 2, 64, false),
  attentionCase(2, 100, 100, 4, 1, 128, true),
  attentionCase(1, 70, 90, 2, 2, 200),
  attentionCase(2, 1, 1000, 8, 2, 64),
  attentionCase(1, 3, 777, 4, 4, 96),
  moeCase(200, 48, 72, 4, 2, true),
  moeCase(131, 33, 65, 5, 1, false, 3),
  moeCase(1, 40, 24, 8, 2, true),
  moeCase(300, 64, 100, 2, 2, true, 7),
];

function relative(got: ArrayLike<number>, want: ArrayLike<number>): number {
  let [difference, norm] = [0, 0];
  for (let i = 0; i < want.length; i++) {
    difference += (got[i]! - want[i]!) ** 2;
    norm += want[i]! ** 2;
  }
  return got.length === want.length ? Math.sqrt(difference / Math.max(norm, 1e-30)) : Number.NaN;
}

/** A tensor's elements, of whatever float dtype. */
async function floats(t: Tensor): Promise<ArrayLike<number>> {
  if (t.dtype === "float32" || t.dtype === "float64") return t.data() as Promise<ArrayLike<number>>;
  const wide = scope(() => cast(t, "float32"));
  const data = await wide.data();
  wide.dispose();
  return data as ArrayLike<number>;
}

async function evaluate(c: Case, tensors: Tensors, gy: Tensor): Promise<{ [name: string]: ArrayLike<number> }> {
  const names = Object.keys(c.shapes);
  const found = scope(() => [
    c.run(tensors),
    ...vjp(
      () => [c.run(tensors)],
      names.map((n) => tensors[n]!),
      [gy],
    ),
  ]) as Tensor[];
  const result: { [name: string]: ArrayLike<number> } = {};
  for (const [i, t] of found.entries()) {
    result[i === 0 ? "y" : `g${names[i - 1]}`] = await floats(t);
    t.dispose();
  }
  return result;
}

let failed = 0;
for (const dtype of ["float32", "bf16", "f16"] as FloatDType[])
  for (const c of cases) {
    const rng = new Rng(17);
    const [own, theirs]: [Tensors, Tensors] = [{}, {}];
    for (const [name, shape] of Object.entries(c.shapes)) {
      const data = rng.normal(shape.reduce((a, b) => a * b, 1)).map((u) => 0.5 * u);
      own[name] = scope(() => cast(fromHost(backend, data, shape, "float32"), dtype));
      theirs[name] = fromHost(oracle, Float64Array.from(await floats(own[name]!)), shape, "float64");
    }
    for (const [name, { shape, data }] of Object.entries(c.ints ?? {}))
      for (const [to, on] of [
        [own, backend],
        [theirs, oracle],
      ] as const)
        to[name] = fromHost(on, data, shape, "int32");
    const y = scope(() => c.run(theirs));
    const up = rng.normal(y.shape.reduce((a, b) => a * b, 1));
    const gy = scope(() => cast(fromHost(backend, up, y.shape, "float32"), dtype));
    const gyTheirs = fromHost(oracle, Float64Array.from(await floats(gy)), y.shape, "float64");
    const [got, want] = [await evaluate(c, own, gy), await evaluate(c, theirs, gyTheirs)];
    const errors = Object.keys(want).map((name) => [name, relative(got[name]!, want[name]!)] as const);
    const limit = (name: string): number =>
      dtype === "float32" ? (name === "y" ? 1e-5 : 1e-4) : name === "y" ? 4e-3 : 1e-2;
    const bad = errors.filter(([name, e]) => !(e <= limit(name)));
    failed += bad.length;
    console.log(
      `${bad.length === 0 ? "ok    " : "FAILED"} ${dtype} ${c.name}: ${errors.map(([n, e]) => `${n} ${e.toExponential(1)}`).join(", ")}`,
    );
    for (const t of [y, gy, gyTheirs, ...Object.values(own), ...Object.values(theirs)]) t.dispose();
  }
const { liveBuffers } = backend.memory();
console.log(`${failed} failed, ${liveBuffers} buffers live`);
process.exitCode = failed + liveBuffers > 0 ? 1 : 0;
backend[Symbol.dispose]();
oracle[Symbol.dispose]();
