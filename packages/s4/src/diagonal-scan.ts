/**
 * A diagonal system with a step of its own at every sample, by real linear scans. In x[t] = exp(delta[t] A) x[t-1] + b[t] u[t] the rotation
 * is taken out, x[t] = exp(i Im(A) time[t]) g[t] with time the running sum of delta: then g decays by a real factor, and its real and
 * imaginary part are two scans of their own. Zero-order hold, exact for an input held over its step.
 */
import {
  add,
  concat,
  cos,
  exp,
  linearScan,
  mul,
  ones,
  permute,
  reshape,
  sin,
  slice,
  sub,
  sum,
  type Tensor,
  unsqueeze,
} from "@mamba-ts/tensor";
import { type ComplexTensor, complexDiv, complexExpm1, complexMul, conjugate, parts } from "./complex-tensor.js";
import { byHeads, elementBytes } from "./heads.js";

export interface ModeScan {
  /** [heads, modes]; Re A < 0 */
  readonly A: ComplexTensor;
  readonly B: ComplexTensor;
  /** [channels, heads, modes] */
  readonly C: ComplexTensor;
  /** [heads, 1] */
  readonly dt: Tensor;
  /** [batch, heads, length] */
  readonly u: Tensor;
  /** [batch, length]: steps in units of dt. */
  readonly deltas: Tensor;
  /** [batch, heads, 2 modes], parts one after the other. */
  readonly state: Tensor | undefined;
}

/** Outputs [batch, channels, heads, length] and the last state [batch, heads, 2 modes]. */
export function scanModes({ A, B, C, dt, u, deltas, state }: ModeScan): { readonly y: Tensor; readonly state: Tensor } {
  const [batch, heads, length] = u.shape as [number, number, number];
  const [channels, modes] = [C.re.shape[0]!, A.re.shape[1]!];
  const time = linearScan(ones(deltas.backend, deltas.shape, deltas.dtype), deltas, 1); // [batch, length]
  const perHead = (t: Tensor): Tensor => permute(t, [1, 0, 2]); // [heads, batch or channels, …]
  const rows = { u: perHead(u), C: parts(C, perHead), state: state === undefined ? undefined : perHead(state) };
  // One tensor a head, so that groups of heads can be joined: outputs, then the state.
  const packed = byHeads(u, heads, elementBytes(u) * batch * length * modes, (part) => {
    const group = part(dt).shape[0]!;
    const [a, b] = [parts(A, part), parts(B, part)];
    const wide = (t: Tensor): Tensor => reshape(t, [group, 1, 1, modes]);
    const step = (t: Tensor): Tensor => mul(wide(t), reshape(deltas, [1, batch, length, 1])); // [heads, batch, length, modes]
    const dtA = parts(a, (t) => mul(t, part(dt)));
    const z = parts(dtA, step);
    const input = complexMul(complexDiv(complexExpm1(z), parts(a, wide)), parts(b, wide));
    const driven = parts(input, (t) => mul(t, unsqueeze(part(rows.u), 3)));
    const angle = mul(wide(dtA.im), reshape(time, [1, batch, length, 1]));
    const turn = { re: cos(angle), im: sin(angle) };
    const unturned = complexMul(driven, conjugate(turn));
    const decay = exp(z.re); // [heads, batch, length, modes]
    const scan = (x: Tensor, first: Tensor | undefined): Tensor => {
      if (first === undefined) return linearScan(decay, x, 2);
      const start = add(slice(x, 2, 0, 1), mul(slice(decay, 2, 0, 1), unsqueeze(first, 2)));
      return linearScan(decay, concat([start, slice(x, 2, 1)], 2), 2);
    };
    const before = rows.state === undefined ? undefined : part(rows.state);
    const g = {
      re: scan(unturned.re, before && slice(before, 2, 0, modes)),
      im: scan(unturned.im, before && slice(before, 2, modes)),
    };
    const x = complexMul(g, turn); // [heads, batch, length, modes]
    const outputs = Array.from({ length: channels }, (_, c) => {
      const weight = parts(rows.C, (t) => wide(slice(part(t), 1, c, c + 1)));
      return mul(sum(sub(mul(x.re, weight.re), mul(x.im, weight.im)), 3), 2); // [heads, batch, length]
    });
    const last = [x.re, x.im].map((t) => reshape(slice(t, 2, length - 1), [group, batch, modes]));
    return concat([...outputs, ...last], 2); // [heads, batch, channels length + 2 modes]
  });
  const y = reshape(slice(packed, 2, 0, channels * length), [heads, batch, channels, length]);
  return { y: permute(y, [1, 2, 0, 3]), state: permute(slice(packed, 2, channels * length), [1, 0, 2]) };
}
