/**
 * Diagonal systems on tensors. Powers are kept as z^l - 1, so that slow modes lose no digits in float32: they come by doubling,
 * (1 + a)(1 + b) - 1 = a + b + a b, in two tables of about sqrt(length) each, and a sum over modes of v z^(q T + j) is one matrix
 * product. Nothing of the size [heads, modes, length] is ever made.
 */
import {
  add,
  concat,
  flip,
  matmul,
  mul,
  pad,
  permute,
  reshape,
  slice,
  sum,
  type Tensor,
  unsqueeze,
  zeros,
} from "@mamba-ts/tensor";
import {
  type ComplexTensor,
  complexAdd,
  complexDiv,
  complexExpm1,
  complexMul,
  parts,
  stackParts,
} from "./complex-tensor.js";
import { byHeads, elementBytes } from "./heads.js";

/** x[t] = (1 + w) x[t-1] + b u[t] for every head and mode, both [heads, modes]. */
export interface DiagonalStep {
  readonly w: ComplexTensor;
  readonly b: ComplexTensor;
}

/**
 * Discretizes A and B [heads, modes] with steps dt [heads, 1]. `zoh`: w = exp(dt A) - 1, b = w / A B; `bilinear`: with
 * z = dt A, w = z / (1 - z / 2), b = dt B / (1 - z / 2).
 */
export function discretizeModes(
  rule: "zoh" | "bilinear",
  A: ComplexTensor,
  B: ComplexTensor,
  dt: Tensor,
): DiagonalStep {
  const z = parts(A, (t) => mul(t, dt));
  if (rule === "zoh") {
    const w = complexExpm1(z);
    return { w, b: complexMul(complexDiv(w, A), B) };
  }
  const below = { re: add(mul(z.re, -0.5), 1), im: mul(z.im, -0.5) };
  return {
    w: complexDiv(z, below),
    b: complexDiv(
      parts(B, (t) => mul(t, dt)),
      below,
    ),
  };
}

/** (1 + w)^l - 1 for l < count along a new last axis, and the same for l = the next power of two. */
function powersMinusOne(
  w: ComplexTensor,
  count: number,
): { readonly table: ComplexTensor; readonly next: ComplexTensor } {
  let table = parts(w, (t) => zeros(t.backend, [...t.shape, 1], t.dtype));
  let next = w;
  for (let size = 1; size < count; size *= 2) {
    const by = parts(next, (t) => unsqueeze(t, -1));
    const ahead = complexAdd(complexAdd(table, by), complexMul(table, by));
    table = { re: concat([table.re, ahead.re], -1), im: concat([table.im, ahead.im], -1) };
    next = complexAdd(
      parts(next, (t) => mul(t, 2)),
      complexMul(next, next),
    );
  }
  return { table: parts(table, (t) => slice(t, -1, 0, count)), next };
}

/** Powers z^(q T + j), q < Q and j < T, that reach `length`. */
export interface PowerTable {
  /** z^j, [heads, modes, T] */
  readonly fine: ComplexTensor;
  /** z^(q T), [heads, modes, Q] */
  readonly coarse: ComplexTensor;
  readonly length: number;
}

export function powerTable(w: ComplexTensor, length: number): PowerTable {
  const T = 2 ** Math.ceil(Math.log2(Math.sqrt(length + 1)));
  const fine = powersMinusOne(w, T);
  const coarse = powersMinusOne(fine.next, Math.floor(length / T) + 1);
  const plusOne = ({ re, im }: ComplexTensor): ComplexTensor => ({ re: add(re, 1), im });
  return { fine: plusOne(fine.table), coarse: plusOne(coarse.table), length };
}

/** z^length, [heads, modes] */
export function lastPower({ fine, coarse, length }: PowerTable): ComplexTensor {
  const T = fine.re.shape[2]!;
  const pick = (x: ComplexTensor, i: number): ComplexTensor =>
    parts(x, (t) => reshape(slice(t, 2, i, i + 1), t.shape.slice(0, 2)));
  return complexMul(pick(coarse, Math.floor(length / T)), pick(fine, length % T));
}

/**
 * 2 Re sum_n v[n] z[n]^l for l < length: kernels (v = C b) and responses to a state (v = C z x).
 * @param v - [heads, rows, modes]  @returns [heads, rows, length]
 */
export function powerSum({ fine, coarse, length }: PowerTable, v: ComplexTensor): Tensor {
  const [heads, rows, modes] = v.re.shape as [number, number, number];
  const [T, Q] = [fine.re.shape[2]!, coarse.re.shape[2]!];
  const bytes = elementBytes(v.re) * Math.max(2 * rows * Q * modes, rows * Q * T);
  return byHeads(v.re, heads, bytes, (part) => {
    const weights = parts(v, (t) => unsqueeze(part(t), 2)); // [heads, rows, 1, modes]
    const powers = parts(coarse, (t) => unsqueeze(permute(part(t), [0, 2, 1]), 1)); // [heads, 1, Q, modes]
    const { re, im } = complexMul(weights, powers); // [heads, rows, Q, modes]
    const group = re.shape[0]!;
    const left = reshape(concat([mul(re, 2), mul(im, -2)], -1), [group, rows * Q, 2 * modes]);
    const right = stackParts(parts(fine, part), 1); // [heads, 2 modes, T]
    return slice(reshape(matmul(left, right), [group, rows, Q * T]), 2, 0, length); // [heads, rows, length]
  });
}

/**
 * What an input leaves in a state of zeros: sum_s z^(length - 1 - s) u[s], without b.
 * @param u - [batch, heads, length]  @returns [batch, heads, modes]
 */
export function inputToState({ fine, coarse, length }: PowerTable, u: Tensor): ComplexTensor {
  const [batch, heads] = u.shape as [number, number, number];
  const [modes, T, Q] = [fine.re.shape[1]!, fine.re.shape[2]!, coarse.re.shape[2]!];
  // Newest first, so that sample q T + j meets z^(q T + j).
  const newest = pad(permute(flip(u, 2), [1, 0, 2]), 2, 0, Q * T - length); // [heads, batch, Q T]
  const inner = matmul(reshape(newest, [heads, batch * Q, T]), stackParts(fine, 1), { transB: true }); // [heads, batch Q, 2 modes]
  const cut = (from: number): Tensor => reshape(slice(inner, 2, from, from + modes), [heads, batch, Q, modes]);
  const powers = parts(coarse, (t) => unsqueeze(permute(t, [0, 2, 1]), 1)); // [heads, 1, Q, modes]
  const total = complexMul({ re: cut(0), im: cut(modes) }, powers);
  return parts(total, (t) => permute(sum(t, 2), [1, 0, 2])); // [batch, heads, modes]
}
