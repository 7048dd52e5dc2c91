import type { Buf, FusedOps, Operand, RmsNormDescriptor } from "@mamba-ts/backend";
import { operation } from "../runtime/call.js";
import type { WasmMemory } from "../runtime/memory.js";

type Args = { readonly [K in "x" | "weight" | "bias" | "residual"]?: Operand | undefined };
type Outputs = { readonly [K in "y" | "sum"]?: Operand };

function forward(memory: WasmMemory, args: Args, { rows, width, eps }: RmsNormDescriptor, centred: boolean) {
  return operation(memory, (call) => {
    const y = call.alloc(rows * width, "float32");
    const sum = args.residual === undefined ? undefined : call.alloc(rows * width, "float32");
    const [weight, bias] = [args.weight, args.bias].map((v) => (v === undefined ? 0 : call.numbers(v)));
    call.kernels.norm(
      ...([y.at, sum?.at ?? 0, call.at(args.x!), call.optional(args.residual), weight!, bias!] as const),
      ...([rows, width, eps, centred ? 1 : 0] as const),
    );
    return { outputs: sum === undefined ? { y } : { y, sum }, saved: [] };
  });
}

function backward(
  memory: WasmMemory,
  args: Args,
  { rows, width, eps, hasResidual }: RmsNormDescriptor,
  outputs: Outputs,
  gradOutputs: Outputs,
  needs: ReadonlySet<string>,
  centred: boolean,
) {
  return operation(memory, (call) => {
    const result: { [K in "x" | "weight" | "bias" | "residual"]?: Buf } = {};
    const vector = (name: "weight" | "bias"): number => {
      if (!needs.has(name)) return 0;
      const grad = call.alloc(width, "float32");
      result[name] = grad;
      return grad.at;
    };
    const whole = call.alloc(rows * width, "float32");
    call.kernels.norm_backward(
      ...([whole.at, vector("weight"), vector("bias"), call.at(hasResidual ? outputs.sum! : args.x!)] as const),
      args.weight === undefined ? 0 : call.numbers(args.weight),
      ...([call.optional(gradOutputs.y), call.optional(gradOutputs.sum), call.scratch(2 * rows)] as const),
      ...([rows, width, eps, centred ? 1 : 0] as const),
    );
    // x and residual have the same gradient, and each needs a buffer of its own.
    if (needs.has("x")) result.x = whole;
    if (needs.has("residual")) {
      if (!needs.has("x")) result.residual = whole;
      else {
        const twin = call.alloc(rows * width, "float32");
        memory.engine.copy(twin.at, whole.at, whole.bytes);
        result.residual = twin;
      }
    }
    if (!needs.has("x") && !needs.has("residual")) call.discard(whole);
    return result;
  });
}

const supports = ({ dtype, residualDtype }: RmsNormDescriptor): boolean =>
  dtype === "float32" && residualDtype === "float32";

/** s / rms(s) * weight with s = x + residual, in float32; see kernels/norm. */
export function rmsNorm(memory: WasmMemory): NonNullable<FusedOps["rmsNorm"]> {
  return {
    supports,
    forward: (args, d) => forward(memory, args, d, false),
    backward: (args, d, outputs, _, gradOutputs, needs) =>
      backward(memory, args, d, outputs, gradOutputs, needs, false),
  };
}

/** (s - mean) / std * weight + bias with s = x + residual, in float32; see kernels/norm. */
export function layerNorm(memory: WasmMemory): NonNullable<FusedOps["layerNorm"]> {
  return {
    supports,
    forward: (args, d) => forward(memory, args, d, true),
    backward: (args, d, outputs, _, gradOutputs, needs) => backward(memory, args, d, outputs, gradOutputs, needs, true),
  };
}
