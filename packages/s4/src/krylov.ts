/** A dense step applied many times at once: states carried across chunks of a convolution. */
import { add, concat, flip, matmul, pad, permute, reshape, slice, type Tensor, unsqueeze } from "@mamba-ts/tensor";
import { type DenseStep, matrixPower } from "./dplr.js";

/** [v, M v, M^2 v, …], 2^doublings of them along the last axis, and M^(2^doublings). v [heads, size, k] */
function krylov(M: Tensor, v: Tensor, doublings: number): { readonly columns: Tensor; readonly next: Tensor } {
  let [columns, next] = [v, M];
  for (let i = 0; i < doublings; i++) {
    columns = concat([columns, matmul(next, columns)], 2);
    next = matmul(next, next);
  }
  return { columns, next };
}

/**
 * C A^(t+1) x for t < length: what a state adds to the outputs after it.
 * @param rows - [channels, heads, size]  @param state - [batch, heads, size]  @returns [batch, channels, heads, length]
 */
export function denseResponse({ A }: DenseStep, rows: Tensor, state: Tensor, length: number): Tensor {
  const [channels, heads] = rows.shape as [number, number, number];
  const batch = state.shape[0]!;
  const fineDoublings = Math.ceil(Math.log2(Math.sqrt(length)));
  const T = 2 ** fineDoublings;
  const coarseDoublings = Math.ceil(Math.log2(Math.ceil(length / T)));
  const transposed = permute(A, [0, 2, 1]);
  const fine = krylov(transposed, permute(rows, [1, 2, 0]), fineDoublings); // [heads, size, T channels]
  const first = matmul(A, permute(state, [1, 2, 0])); // [heads, size, batch]
  const coarse = krylov(permute(fine.next, [0, 2, 1]), first, coarseDoublings).columns; // [heads, size, Q batch]
  const Q = 2 ** coarseDoublings;
  const y = matmul(coarse, fine.columns, { transA: true }); // [heads, Q batch, T channels]
  const ordered = permute(reshape(y, [heads, Q, batch, T, channels]), [2, 4, 0, 1, 3]); // [batch, channels, heads, Q, T]
  return slice(reshape(ordered, [batch, channels, heads, Q * T]), 3, 0, length);
}

/**
 * The state after an input: A^length x + sum_s A^(length - 1 - s) B u[s].
 * @param u - [batch, heads, length]  @param state - [batch, heads, size]; zeros if absent  @returns [batch, heads, size]
 */
export function denseStateAfter({ A, B }: DenseStep, u: Tensor, state: Tensor | undefined): Tensor {
  const [batch, heads, length] = u.shape as [number, number, number];
  const size = A.shape[1]!;
  const doublings = Math.ceil(Math.log2(Math.sqrt(length)));
  const T = 2 ** doublings;
  const Q = Math.ceil(length / T);
  const { columns, next } = krylov(A, unsqueeze(B, 2), doublings); // [heads, size, T]
  // Newest last within a block, blocks from the oldest; the oldest block is filled up with zeros in front.
  const blocks = reshape(pad(permute(u, [1, 0, 2]), 2, Q * T - length, 0), [heads, batch * Q, T]);
  const left = reshape(matmul(flip(blocks, 2), columns, { transB: true }), [heads, batch, Q, size]);
  let x = state === undefined ? undefined : permute(state, [1, 0, 2]); // [heads, batch, size]
  // The state enters in front of the zeros: it must not age during them.
  const first = length - (Q - 1) * T;
  for (let q = 0; q < Q; q++) {
    const block = reshape(slice(left, 2, q, q + 1), [heads, batch, size]);
    if (x !== undefined) x = matmul(x, q === 0 ? matrixPower(A, first) : next, { transB: true });
    x = x === undefined ? block : add(x, block);
  }
  return permute(x!, [1, 0, 2]);
}
