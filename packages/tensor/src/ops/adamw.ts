import { type AdamWDescriptor, DTypeError, InvalidArgumentError } from "@mamba-ts/backend";
import { reportDispatch } from "../dispatch.js";
import { refuseOnTape } from "../recorder.js";
import { commonBackend, withOperands } from "../run.js";
import { scope } from "../scope.js";
import { expectShape } from "../shape.js";
import type { Tensor } from "../tensor.js";
import { add, div, mul, sub } from "./binary.js";
import { sqrt } from "./unary.js";

export interface AdamWArguments {
  /** Overwritten. float32 (or float64): master weights are never half precision. */
  readonly params: readonly Tensor[];
  readonly grads: readonly Tensor[];
  /** First moments, zeros at first; overwritten. */
  readonly m: readonly Tensor[];
  /** Second moments, zeros at first; overwritten. */
  readonly v: readonly Tensor[];
}

/**
 * One step of AdamW (arXiv:1711.05101, Alg. 2, with the learning rate multiplying the decay as in PyTorch), in place:
 * m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; p -= lr (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + decay p).
 */
export function adamW({ params, grads, m, v }: AdamWArguments, descriptor: AdamWDescriptor): void {
  const op = "adamw";
  refuseOnTape(op);
  const n = params.length;
  if (grads.length !== n || m.length !== n || v.length !== n || descriptor.weightDecay.length !== n)
    throw new InvalidArgumentError(
      `${op}: ${n} params, ${grads.length} grads, ${m.length} and ${v.length} moments, ${descriptor.weightDecay.length} decays`,
    );
  if (n === 0) return;
  const backend = commonBackend(op, [...params, ...grads, ...m, ...v]);
  params.forEach((p, i) => {
    for (const [name, t] of Object.entries({ grads: grads[i]!, m: m[i]!, v: v[i]! })) {
      expectShape(op, `${name}[${i}]`, t.shape, p.shape);
      if (t.dtype !== p.dtype) throw new DTypeError(`${op}: ${name}[${i}] is ${t.dtype}, its parameter ${p.dtype}`);
    }
    if (p.dtype !== "float32" && p.dtype !== "float64")
      throw new DTypeError(`${op}: params[${i}] is ${p.dtype}, not float32 or float64`);
  });
  const kernel = backend.fused?.adamw;
  const written = [...params, ...m, ...v];
  const fused = kernel?.supports(descriptor) === true && written.every((t) => t.isDense);
  reportDispatch(op, "forward", fused ? "fused" : "composed");
  if (!fused) {
    for (const [i, p] of params.entries()) composed(p, grads[i]!, m[i]!, v[i]!, descriptor, descriptor.weightDecay[i]!);
    return;
  }
  withOperands([...written, ...grads], (operands) =>
    kernel.forward(
      {
        param: operands.slice(0, n),
        m: operands.slice(n, 2 * n),
        v: operands.slice(2 * n, 3 * n),
        grad: operands.slice(3 * n),
      },
      descriptor,
    ),
  );
}

function composed(p: Tensor, grad: Tensor, m: Tensor, v: Tensor, d: AdamWDescriptor, decay: number): void {
  scope(() => {
    const g = mul(grad, d.gradScale);
    const m1 = add(mul(m, d.beta1), mul(g, 1 - d.beta1));
    const v1 = add(mul(v, d.beta2), mul(mul(g, g), 1 - d.beta2));
    const mHat = mul(m1, 1 / (1 - d.beta1 ** d.step));
    const vHat = mul(v1, 1 / (1 - d.beta2 ** d.step));
    const update = add(div(mHat, add(sqrt(vHat), d.eps)), mul(p, decay));
    p.assign(sub(p, mul(update, d.lr)));
    m.assign(m1);
    v.assign(v1);
  });
}
