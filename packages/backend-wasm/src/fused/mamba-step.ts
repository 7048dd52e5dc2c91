import type { FusedOps, MambaStepDescriptor, Operand } from "@mamba-ts/backend";
import { move } from "../primitives/move.js";
import { type Call, operation } from "../runtime/call.js";
import { weightFormats } from "../runtime/kernels.js";
import type { WasmMemory } from "../runtime/memory.js";
import { weightOf } from "./linear.js";

type Op = NonNullable<FusedOps["mambaStep"]>;
type Args = Parameters<Op["forward"]>[0];

/** A draft is verified in one such pass. From twice as many on, a scan with channels as lanes is as fast. */
const MOST_TOKENS = 16;

function supports({ dtype, weightDtype, length, dModel, dInner }: MambaStepDescriptor): boolean {
  const wholeBlocks = weightDtype !== "q8_0" || (dModel % 32 === 0 && dInner % 32 === 0);
  const known = (weightFormats as readonly string[]).includes(weightDtype);
  return dtype === "float32" && length > 0 && length <= MOST_TOKENS && known && wholeBlocks;
}

/** y [rows, weight's rows] = x [rows, columns] weight^T + bias, x's rows `stride` apart; y is added to with `onto`. */
function project(
  call: Call,
  [x, stride]: readonly [at: number, stride: number],
  rows: number,
  weight: Operand,
  bias: Operand | undefined,
  y = call.scratch(rows * weight.shape[0]!),
  onto = false,
): number {
  const [out, columns] = weight.shape as [number, number];
  const shift = bias === undefined ? 0 : call.numbers(bias);
  const matrix = weightOf(call, weight);
  call.kernels.gemm(x, stride, 1, ...matrix, y, out, rows, out, columns, onto ? 1 : 0, shift);
  return y;
}

/** A slice [rows, width] of wider rows, normalised where `innerNorm` asks for it; its address and row stride. */
function part(
  call: Call,
  [from, stride]: readonly [at: number, stride: number],
  width: number,
  weight: Operand | undefined,
  { batch, length, innerNorm, innerNormEps }: MambaStepDescriptor,
): readonly [at: number, stride: number] {
  if (innerNorm === "none") return [from, stride];
  const rows = batch * length;
  const [dense, y] = [call.scratch(rows * width), call.scratch(rows * width)];
  move(call, "float32", [rows, width], dense, [width, 1], from, [stride, 1]);
  const scale = weight === undefined ? 0 : call.numbers(weight);
  call.kernels.norm(y, 0, dense, 0, scale, 0, rows, width, innerNormEps, 0);
  return [y, width];
}

function step(memory: WasmMemory, args: Args, d: MambaStepDescriptor) {
  const { batch, length, dModel, dInner, dState, dConv, dtRank, inPlace } = d;
  const rows = batch * length;
  return operation(memory, (call) => {
    const optional = (x: Operand | undefined): number => (x === undefined ? 0 : call.numbers(x));
    const out = call.alloc(rows * dModel, "float32");
    const convState = inPlace ? memory.own(args.convState.buf) : call.alloc(args.convState.buf.count, "float32");
    const ssmState = inPlace ? memory.own(args.ssmState.buf) : call.alloc(args.ssmState.buf.count, "float32");

    const normal = call.scratch(rows * dModel);
    const [x, update] = [call.at(args.x), call.optional(args.update)];
    if (update === 0) memory.engine.copy(out.at, x, out.bytes);
    call.kernels.norm(
      ...([normal, update === 0 ? 0 : out.at, update === 0 ? x : update, update === 0 ? 0 : x] as const),
      ...([call.numbers(args.normWeight), optional(args.normBias), rows, dModel] as const),
      ...([d.normEps, d.norm === "layer" ? 1 : 0] as const),
    );

    const xz = project(call, [normal, dModel], rows, args.inProj, args.inBias); // [rows, 2 dInner]
    const u = call.scratch(rows * dInner);
    call.kernels.causal_conv1d(
      u,
      convState.at,
      memory.words([
        ...[batch, length, dInner, dConv, 1, xz, 2 * dInner, call.numbers(args.convWeight), optional(args.convBias)],
        ...[call.at(args.convState), 0, call.scratch(batch * (length + 1) * dConv), call.scratch(dInner * dConv)],
      ]),
    );

    const width = dtRank + 2 * dState;
    const dtBC = project(call, [u, dInner], rows, args.xProj, undefined); // [rows, dtRank + 2 dState]
    const dt = part(call, [dtBC, width], dtRank, args.dtNorm, d);
    const B = part(call, [dtBC + 4 * dtRank, width], dState, args.bNorm, d);
    const C = part(call, [dtBC + 4 * (dtRank + dState), width], dState, args.cNorm, d);
    const delta = project(call, dt, rows, args.dtProj, undefined);
    const y = call.scratch(rows * dInner);
    const vectors = [args.A_log, args.D, args.dtBias].map((v) => call.numbers(v));
    const words = memory.words([
      ...[batch, length, dInner, dState, 1, 1, u, dInner, delta, dInner, ...B, ...C, xz + 4 * dInner, 2 * dInner],
      ...[...vectors, call.at(args.ssmState), 0],
    ]);
    call.kernels.selective_scan(y, ssmState.at, 0, words, 1);

    project(call, [y, dInner], rows, args.outProj, undefined, out.at, true);
    if (args.outBias !== undefined) {
      const bias = call.numbers(args.outBias);
      call.kernels.binary(out.at, out.at, bias, 2, memory.words([rows, dModel, dModel, 1, 0, 1]), 0);
    }
    return { outputs: { out, convState, ssmState } };
  });
}

/** A whole block on a few tokens: the other kernels in a row, without tensors between; see kernels/mamba-step. */
export function mambaStep(memory: WasmMemory): Op {
  return { supports, forward: (args, descriptor) => step(memory, args, descriptor) };
}
