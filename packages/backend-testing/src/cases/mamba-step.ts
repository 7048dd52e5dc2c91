import { causalConv1d as convOracle, selectiveScan as scanOracle } from "@mamba-ts/ssm";
import * as t from "@mamba-ts/tensor";
import type { OpCase } from "../case.js";

const d = { batch: 2, length: 1, dModel: 4, dInner: 6, dState: 3, dConv: 4, dtRank: 2 };
const eps = 1e-5;

/** A whole block at length 1; `inner` also normalises dt, B and C. */
function stepCase(
  norm: "rms" | "layer",
  inner: "none" | "plain" | "weighted",
  inPlace: boolean,
  bias: boolean,
): OpCase {
  return {
    op: "mambaStep",
    name: `mambaStep ${norm} norm, inner norm ${inner}${inPlace ? ", in place" : ""}${bias ? ", biases" : ""}`,
    noGradient: true,
    inputs: (r) => ({
      x: r.normal([2, 1, 4]),
      update: r.normal([2, 1, 4]),
      normWeight: r.normal([4]),
      ...(norm === "layer" ? { normBias: r.normal([4]) } : {}),
      inProj: r.normal([12, 4]),
      convWeight: r.normal([6, 4]),
      xProj: r.normal([8, 6]),
      dtProj: r.normal([6, 2]),
      dtBias: r.normal([6]),
      A_log: r.normal([6, 3]),
      D: r.normal([6]),
      outProj: r.normal([4, 6]),
      ...(bias ? { inBias: r.normal([12]), convBias: r.normal([6]), outBias: r.normal([4]) } : {}),
      ...(inner === "weighted" ? { dtNorm: r.normal([2]), bNorm: r.normal([3]), cNorm: r.normal([3]) } : {}),
      convState: r.normal([2, 3, 6]),
      ssmState: r.normal([2, 6, 3]),
    }),
    run: (args) => {
      const descriptor = {
        ...d,
        dtype: args["x"]!.dtype as "float32",
        weightDtype: args["x"]!.dtype,
        norm,
        normEps: eps,
        innerNorm: inner,
        innerNormEps: eps,
        inPlace,
      };
      const { residual, update, convState, ssmState } = t.mambaStep(
        args as unknown as t.MambaStepArguments,
        descriptor,
        () => compose(args, norm, inner),
      );
      return {
        out: update === undefined ? residual : t.add(residual, update),
        convState: t.copy(convState),
        ssmState: t.copy(ssmState),
      };
    },
    oracle: (args) => oracle(args, norm, inner),
  };
}

function compose(
  a: { readonly [name: string]: t.Tensor },
  norm: "rms" | "layer",
  inner: "none" | "plain" | "weighted",
): t.MambaStepResult {
  const normed = norm === "rms" ? t.rmsNorm : t.layerNorm;
  const { y, sum } = normed({ x: a["update"]!, residual: a["x"]!, weight: a["normWeight"], bias: a["normBias"], eps });
  const [x, z] = t.split(t.linear(y, a["inProj"]!, { bias: a["inBias"] }), [6, 6]) as [t.Tensor, t.Tensor];
  const conv = t.causalConv1d({
    x,
    weight: a["convWeight"]!,
    bias: a["convBias"],
    initialState: a["convState"],
    activation: "silu",
  });
  let parts = t.split(t.linear(conv.y, a["xProj"]!), [2, 3, 3]);
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

function oracle(a: Numbers, norm: "rms" | "layer", inner: "none" | "plain" | "weighted") {
  const wide = (name: string): Float64Array => Float64Array.from(a[name]!);
  const sum = Float64Array.from(a["x"]!, (v, i) => v + a["update"]![i]!);
  const xz = project(normalise(sum, 4, a["normWeight"], a["normBias"], norm === "layer"), a["inProj"]!, 4, a["inBias"]);
  const shape = { batch: 2, length: 1 };
  const conv = convOracle({
    ...shape,
    channels: 6,
    width: 4,
    x: columns(xz, 12, 0, 6),
    weight: wide("convWeight"),
    ...(a["convBias"] === undefined ? {} : { bias: wide("convBias") }),
    initialState: wide("convState"),
    activation: "silu",
  });
  const dbc = project(conv.y, a["xProj"]!, 6);
  const part = (start: number, end: number, weight: string): Float64Array => {
    const p = columns(dbc, 8, start, end);
    return inner === "none" ? p : normalise(p, end - start, a[weight]);
  };
  const scan = scanOracle({
    ...shape,
    dInner: 6,
    dState: 3,
    x: conv.y,
    delta: project(part(0, 2, "dtNorm"), a["dtProj"]!, 2),
    A: wide("A_log").map((v) => -Math.exp(v)),
    B: part(2, 5, "bNorm"),
    C: part(5, 8, "cNorm"),
    D: wide("D"),
    z: columns(xz, 12, 6, 12),
    deltaBias: wide("dtBias"),
    softplus: true,
    initialState: wide("ssmState"),
  });
  const update = project(scan.y, a["outProj"]!, 6, a["outBias"]);
  return { out: sum.map((v, i) => v + update[i]!), convState: conv.finalState, ssmState: scan.finalState };
}

export const mambaStepCases: readonly OpCase[] = [
  stepCase("rms", "none", false, true),
  stepCase("layer", "plain", true, false),
  stepCase("rms", "weighted", false, false),
];
