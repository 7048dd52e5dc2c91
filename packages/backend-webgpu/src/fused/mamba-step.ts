import type { FusedOps, MambaStepDescriptor, Operand } from "@mamba-ts/backend";
import { cast } from "../primitives/cast.js";
import { binary } from "../primitives/elementwise.js";
import type { WebGpuBuf, WebGpuMemory } from "../storage.js";
import { lanesFor, matvec, matvecGrid, stageFor, weightFormats } from "./linear.js";
import { optional } from "./operands.js";

type Op = NonNullable<FusedOps["mambaStep"]>;
type Args = Parameters<Op["forward"]>[0];

/** Rows that each read the weights for themselves; more do better in tiles. */
const MAX_BATCH = 8;
/** in-project.wgsl and advance.wgsl with all that they can take; RMS norm, and no weights of inner norms, leave one and three of them out. */
const BINDINGS = 10;
const MAX_INNER_WIDTH = 2048;

/** A whole block at length 1 in four dispatches: see kernels/mamba-step. */
export function mambaStep(memory: WebGpuMemory): Op {
  const { gpu } = memory;
  return {
    supports: (d) =>
      d.length === 1 &&
      d.dtype === "float32" &&
      d.batch > 0 &&
      d.batch <= MAX_BATCH &&
      d.dConv > 1 &&
      d.dtRank + 2 * d.dState <= MAX_INNER_WIDTH &&
      weightFormats[d.weightDtype] !== undefined &&
      (gpu.maxBindings >= BINDINGS || (d.norm === "rms" && d.innerNorm !== "weighted")),
    forward: (args, d) => forward(memory, args, d),
  };
}

function forward(memory: WebGpuMemory, args: Args, d: MambaStepDescriptor) {
  const { gpu } = memory;
  const { batch, dModel, dInner, dState, dConv, dtRank, inPlace } = d;
  const temporaries: WebGpuBuf[] = [];
  /** Small operands are read as float32. */
  const small = (operand: Operand | undefined): WebGpuBuf | undefined => {
    if (operand === undefined || operand.dtype === "float32") return optional(memory, operand);
    const buf = cast(memory, operand, "float32") as WebGpuBuf;
    temporaries.push(buf);
    return buf;
  };
  const state = (operand: Operand): WebGpuBuf =>
    inPlace ? memory.own(operand.buf) : (cast(memory, operand, "float32") as WebGpuBuf);
  const [conv_state, ssm_state] = [state(args.convState), state(args.ssmState)];
  const [x, residual] = [memory.own(args.x.buf), optional(memory, args.update)];
  const HAS_UPDATE = Number(residual !== undefined);
  /** Of the first kernel. */
  let [stream, update] = [x, residual];
  const bound = [
    stream,
    update,
    args.normWeight,
    args.normBias,
    args.inProj,
    args.inBias,
    args.convWeight,
    args.convBias,
  ];
  if (update !== undefined && bound.filter((b) => b !== undefined).length + 2 > gpu.maxBindings) {
    // One binding too many: the sum is made before.
    stream = binary(memory, "add", args.x, args.update!) as WebGpuBuf;
    update = undefined;
    temporaries.push(stream);
  }

  const xz = memory.alloc(batch * 2 * dInner, "float32");
  const inLanes = lanesFor(2 * dInner, dModel, args.inProj.dtype);
  gpu.run(
    "mamba-step/in-project",
    {
      ...{ x: stream, residual: update, conv_state, xz },
      norm_weight: small(args.normWeight),
      norm_bias: small(args.normBias),
      weight: memory.own(args.inProj.buf),
      in_bias: small(args.inBias),
      conv_weight: small(args.convWeight),
      conv_bias: small(args.convBias),
    },
    { d_model: dModel, d_inner: dInner, d_conv: dConv, eps: d.normEps },
    {
      constants: {
        WEIGHT: weightFormats[args.inProj.dtype]!,
        HAS_UPDATE: Number(update !== undefined),
        IS_LAYER: Number(d.norm === "layer"),
        HAS_IN_BIAS: Number(args.inBias !== undefined),
        HAS_CONV_BIAS: Number(args.convBias !== undefined),
        LANES: inLanes,
        STAGE: stageFor(dModel),
      },
      grid: matvecGrid(2 * dInner, inLanes, batch),
    },
  );

  const width = dtRank + 2 * dState;
  const dbc = memory.alloc(batch * width, "float32");
  const u = { buf: xz, start: 0, pitch: 2 * dInner };
  matvec(memory, u, args.xProj, undefined, dbc, { rows: batch, k: dInner, n: width });

  gpu.run(
    "mamba-step/advance",
    {
      ...{ dbc, ssm_state, xz },
      weight: memory.own(args.dtProj.buf),
      dt_bias: small(args.dtBias),
      A_log: small(args.A_log),
      D: small(args.D),
      dt_norm: small(args.dtNorm),
      b_norm: small(args.bNorm),
      c_norm: small(args.cNorm),
    },
    { d_inner: dInner, d_state: dState, dt_rank: dtRank, inner_eps: d.innerNormEps },
    {
      constants: {
        WEIGHT: weightFormats[args.dtProj.dtype]!,
        INNER_NORM: ["none", "plain", "weighted"].indexOf(d.innerNorm),
        STAGE: stageFor(width),
      },
      grid: [Math.ceil(dInner / 16), 1, batch],
    },
  );

  const out = memory.alloc(batch * dModel, "float32");
  const outLanes = lanesFor(dModel, dInner, args.outProj.dtype);
  gpu.run(
    "mamba-step/out-project",
    { x, residual, xz, weight: memory.own(args.outProj.buf), out_bias: small(args.outBias), out },
    { d_model: dModel, d_inner: dInner },
    {
      constants: {
        WEIGHT: weightFormats[args.outProj.dtype]!,
        HAS_UPDATE,
        HAS_BIAS: Number(args.outBias !== undefined),
        LANES: outLanes,
        STAGE: stageFor(dInner),
      },
      grid: matvecGrid(dModel, outLanes, batch),
    },
  );
  for (const buf of [xz, dbc, ...temporaries]) memory.free(buf);
  return { outputs: { out, convState: conv_state, ssmState: ssm_state } };
}
