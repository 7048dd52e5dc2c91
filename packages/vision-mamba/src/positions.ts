import { concat, fromHost, matmul, reshape, scope, slice, type Tensor } from "@mamba-ts/tensor";
import type { ResolvedVisionMambaConfig } from "./config.js";

/** Keys' cubic kernel (a = -0.75, as PyTorch's bicubic interpolation). */
function cubic(x: number): number {
  const [a, t] = [-0.75, Math.abs(x)];
  if (t <= 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
  if (t < 2) return (((t - 5) * t + 8) * t - 4) * a;
  return 0;
}

/** The matrix [to, from] that resamples `from` values at `to` places, pixel centres aligned at the borders, borders repeated. */
export function bicubicMatrix(from: number, to: number): Float64Array {
  const matrix = new Float64Array(to * from);
  for (let i = 0; i < to; i++) {
    const at = ((i + 0.5) * from) / to - 0.5;
    const left = Math.floor(at);
    for (let k = left - 1; k <= left + 2; k++) {
      const j = Math.min(from - 1, Math.max(0, k));
      matrix[i * from + j]! += cubic(at - k);
    }
  }
  return matrix;
}

type Layout = Pick<ResolvedVisionMambaConfig, "grid" | "classPositions">;

/**
 * Positions learnt on one grid of patches, for another: the patches' are interpolated bicubically, the class tokens' go unchanged to where
 * the class tokens now stand. (The reference takes token 0 for the class token wherever it stands, which shifts half of the patches by one.)
 * @param positions - [1, tokens, dModel]  @returns [1, tokens of the new layout, dModel]
 */
export function interpolatePositions(positions: Tensor, from: Layout, to: Layout): Tensor {
  return scope(() => {
    const { backend, dtype } = positions;
    const width = positions.shape[2]!;
    const tokens = positions.shape[1]!;
    const type = dtype === "float64" ? "float64" : "float32";
    const classes = from.classPositions.map((at) => slice(positions, 1, at, at + 1));
    const patches = concat(between(positions, tokens, from.classPositions), 1);
    const resample = (n: number, m: number): Tensor => fromHost(backend, bicubicMatrix(n, m), [m, n], type);
    const rows = matmul(resample(from.grid[0], to.grid[0]), reshape(patches, [from.grid[0], from.grid[1] * width]));
    const grid = matmul(resample(from.grid[1], to.grid[1]), reshape(rows, [to.grid[0], from.grid[1], width])); // [rows, columns, width]
    return withClassTokens(reshape(grid, [1, to.grid[0] * to.grid[1], width]), classes, to.classPositions);
  });
}

/** The stretches of tokens between the class tokens. */
function between(tokens: Tensor, length: number, classPositions: readonly number[]): Tensor[] {
  const edges = [-1, ...classPositions, length];
  return edges.slice(1).flatMap((end, i) => {
    const start = edges[i]! + 1;
    return end > start ? [slice(tokens, 1, start, end)] : [];
  });
}

/** Puts class tokens among patches [batch, patches, width] so that they stand at `classPositions`. */
export function withClassTokens(
  patches: Tensor,
  classes: readonly Tensor[],
  classPositions: readonly number[],
): Tensor {
  const parts: Tensor[] = [];
  let [from, placed] = [0, 0];
  for (const [i, at] of classPositions.entries()) {
    const count = at - placed;
    if (count > 0) parts.push(slice(patches, 1, from, from + count));
    parts.push(classes[i]!);
    from += count;
    placed = at + 1;
  }
  if (from < patches.shape[1]!) parts.push(slice(patches, 1, from));
  return concat(parts, 1);
}

/** The patches among tokens [batch, tokens, width]: [batch, patches, width]. */
export function withoutClassTokens(tokens: Tensor, classPositions: readonly number[]): Tensor {
  return concat(between(tokens, tokens.shape[1]!, classPositions), 1);
}
