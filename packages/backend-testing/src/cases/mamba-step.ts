import { causalConv1d as convOracle, selectiveScan as scanOracle } from "@mamba-ts/ssm";
import * as t from "@mamba-ts/tensor";
import type { OpCase } from "../case.js";

const small = { batch: 2, length: 1, dModel: 4, dInner: 6, dState: 3, dConv: 4, dtRank: 2 };
/** Rows that fill whole vectors, and more sequences than kernels for a few take. */
const larger = { batch: 6, length: 1, dModel: 40, dInner: 72, dState: 16, dConv: 3, dtRank: 8 };
type Sizes = typeof small;
const eps = 1e-5;

interface StepOptions {
  readonly norm: "rms" | "layer";
  readonly inner?: "none" | "plain" | "weighted";
  readonly inPlace?: boolean;
  readonly bias?: boolean;
  readonly sizes?: Sizes;
  /** Weights that bf16 holds exactly are given in it, where the backend has it. */
  readonly half?: boolean;
}

/** A whole block; `inner` also normalises dt, B and C. */
function stepCase(options: StepOptions): OpCase {
  const { norm, inner = "none", inPlace = false, bias = false, sizes = small, half = false } = options;
  const { batch, length, dModel, dInner, dState, dConv, dtRank } = sizes;
  const width = dtRank + 2 * dState;
  const details = [
    length > 1 ? `length ${length}` : "",
    inPlace ? "in place" : "",
    bias ? "biases" : "",
    half ? "weights in bf16" : "",
  ];
  return {
    op: "mambaStep",
    name: [`mambaStep ${norm} norm, inner norm ${inner}, batch ${batch}`, ...details.filter((x) => x)].join(", "),
    noGradient: true,
    inputs: (r) => {
      const weight = (shape: number[]) =>
        half ? r.lattice(shape, -1, 1, 0) : r.normal(shape, 2 / Math.sqrt(shape[1]!));
      return {
        x: r.normal([batch, length, dModel]),
        update: r.normal([batch, length, dModel]),
        normWeight: r.normal([dModel]),
        ...(norm === "layer" ? { normBias: r.normal([dModel]) } : {}),
        inProj: weight([2 * dInner, dModel]),
        convWeight: r.normal([dInner, dConv]),
        xProj: weight([width, dInner]),
        dtProj: weight([dInner, dtRank]),
        dtBias: r.normal([dInner]),
        A_log: r.normal([dInner, dState]),
        D: r.normal([dInner]),
        outProj: weight([dModel, dInner]),
        ...(bias ? { inBias: r.normal([2 * dInner]), convBias: r.normal([dInner]), outBias: r.normal([dModel]) } : {}),
        ...(inner === "weighted"
          ? { dtNorm: r.normal([dtRank]), bNorm: r.normal([dState]), cNorm: r.normal([dState]) }
          : {}),
        convState: r.normal([batch, dConv - 1, dInner]),
        ssmState: r.normal([batch, dInner, dState]),
      };
    },
    run: (given, backend) => {
      const isHalf = half && backend.dtypes.has("bf16") && given["x"]!.dtype === "float32";
      const args = { ...given };
      if (isHalf) for (const k of ["inProj", "xProj", "dtProj", "outProj"]) args[k] = t.cast(given[k]!, "bf16");
      const dtype = args["x"]!.dtype as "float32";
      const descriptor = {
        ...sizes,
        dtype,
        weightDtype: args["inProj"]!.dtype,
        innerDtype: dtype,
        norm,
        normEps: eps,
        innerNorm: inner,
        innerNormEps: eps,
        inPlace,
      };
      const { residual, update, convState, ssmState } = t.mambaStep(
        args as unknown as t.MambaStepArguments,
        descriptor,
        () => compose(args, norm, inner, sizes),
      );
      return {
        out: update === undefined ? residual : t.add(residual, update),
        convState: t.copy(convState),
        ssmState: t.copy(ssmState),
      };
    },
    oracle: (args) => oracle(args, norm, inner, sizes),
  };
}

function compose(
  a: { readonly [name: string]: t.Tensor },
  norm: "rms" | "layer",
  inner: "none" | "plain" | "weighted",
  { dInner, dtRank, dState }: Sizes,
): t.MambaStepResult {
  const normed = norm === "rms" ? t.rmsNorm : t.layerNorm;
  const { y, sum } = normed({ x: a["update"]!, residual: a["x"]!, weight: a["normWeight"], bias: a["normBias"], eps });
  const [x, z] = t.split(t.linear(y, a["inProj"]!, { bias: a["inBias"] }), [dInner, dInner]) as [t.Tensor, t.Tensor];
  const conv = t.causalConv1d({
    x,
    weight: a["convWeight"]!,
    bias: a["convBias"],
    initialState: a["convState"],
    activation: "silu",
  });
  let parts = t.split(t.linear(conv.y, a["xProj"]!), [dtRank, dState, dState]);
  if (inner !== "none")
    parts = parts.map((p, i) => t.rmsNorm({ x: p, weight: [a["dtNorm"], a["bNorm"], a["cNorm"]][i], eps }).y);
  const [dt, B, C] = parts as [t.Tensor, t.Tensor, t.Tensor];
  const delta = t.linear(dt, a["dtProj"]!);
  const A = t.neg(t.exp(a["A_log"]!));
  const scan = t.selectiveScan({
    x: conv.y,
    delta,
    A,
    B,
    C,
    D: a["D"],
    z,
    deltaBias: a["dtBias"],
    softplus: true,
    initialState: a["ssmState"],
  });
  return {
    residual: sum,
    update: t.linear(scan.y, a["outProj"]!, { bias: a["outBias"] }),
    convState: conv.finalState,
    ssmState: scan.finalState,
  };
}

type Numbers = { readonly [name: string]: ArrayLike<number> };

/** Each row's product with a weight [out, in], in plain loops. */
function project(
  x: ArrayLike<number>,
  weight: ArrayLike<number>,
  inSize: number,
  bias?: ArrayLike<number>,
): Float64Array {
  const outSize = weight.length / inSize;
  return Float64Array.from({ length: (x.length / inSize) * outSize }, (_, i) => {
    const [row, o] = [Math.floor(i / outSize), i % outSize];
    let sum = bias?.[o] ?? 0;
    for (let k = 0; k < inSize; k++) sum += x[row * inSize + k]! * weight[o * inSize + k]!;
    return sum;
  });
}

function normalise(
  x: Float64Array,
  width: number,
  weight?: ArrayLike<number>,
  bias?: ArrayLike<number>,
  centred = false,
): Float64Array {
  return x.map((v, i) => {
    const row = x.subarray(i - (i % width), i - (i % width) + width);
    const mean = centred ? row.reduce((a, b) => a + b, 0) / width : 0;
    const square = row.reduce((a, b) => a + (b - mean) ** 2, 0) / width;
    return ((v - mean) / Math.sqrt(square + eps)) * (weight?.[i % width] ?? 1) + (bias?.[i % width] ?? 0);
  });
}

function columns(x: Float64Array, width: number, start: number, end: number): Float64Array {
  return x.filter((_, i) => i % width >= start && i % width < end);
}

function oracle(
  a: Numbers,
  norm: "rms" | "layer",
  inner: "none" | "plain" | "weighted",
  { batch, length, dModel, dInner, dState, dConv, dtRank }: Sizes,
) {
  const wide = (name: string): Float64Array => Float64Array.from(a[name]!);
  const sum = Float64Array.from(a["x"]!, (v, i) => v + a["update"]![i]!);
  const normed = normalise(sum, dModel, a["normWeight"], a["normBias"], norm === "layer");
  const xz = project(normed, a["inProj"]!, dModel, a["inBias"]);
  const shape = { batch, length };
  const conv = convOracle({
    ...shape,
    channels: dInner,
    width: dConv,
    x: columns(xz, 2 * dInner, 0, dInner),
    weight: wide("convWeight"),
    ...(a["convBias"] === undefined ? {} : { bias: wide("convBias") }),
    initialState: wide("convState"),
    activation: "silu",
  });
  const dbc = project(conv.y, a["xProj"]!, dInner);
  const width = dtRank + 2 * dState;
  const part = (start: number, end: number, weight: string): Float64Array => {
    const p = columns(dbc, width, start, end);
    return inner === "none" ? p : normalise(p, end - start, a[weight]);
  };
  const scan = scanOracle({
    ...shape,
    dInner,
    dState,
    x: conv.y,
    delta: project(part(0, dtRank, "dtNorm"), a["dtProj"]!, dtRank),
    A: wide("A_log").map((v) => -Math.exp(v)),
    B: part(dtRank, dtRank + dState, "bNorm"),
    C: part(dtRank + dState, width, "cNorm"),
    D: wide("D"),
    z: columns(xz, 2 * dInner, dInner, 2 * dInner),
    deltaBias: wide("dtBias"),
    softplus: true,
    initialState: wide("ssmState"),
  });
  const update = project(scan.y, a["outProj"]!, dInner, a["outBias"]);
  return { out: sum.map((v, i) => v + update[i]!), convState: conv.finalState, ssmState: scan.finalState };
}

export const mambaStepCases: readonly OpCase[] = [
  stepCase({ norm: "rms", bias: true }),
  stepCase({ norm: "layer", inner: "plain", inPlace: true }),
  stepCase({ norm: "rms", inner: "weighted" }),
  stepCase({ norm: "rms", sizes: larger, inPlace: true, bias: true }),
  stepCase({ norm: "layer", inner: "weighted", sizes: { ...larger, batch: 3 }, half: true }),
  stepCase({ norm: "rms", sizes: { ...larger, batch: 1, dState: 5 }, half: true, bias: true }),
  // A few tokens, as when a draft is verified: fused where the backend's kernel takes them, else composed.
  stepCase({ norm: "rms", inner: "weighted", sizes: { ...small, length: 3 }, bias: true }),
  stepCase({ norm: "layer", inner: "plain", sizes: { ...larger, length: 16 }, inPlace: true }),
];
