import type { Shape } from "@mamba-ts/backend";
import { broadcastShapes, linear, matmul } from "@mamba-ts/tensor";
import { at, build, type OpCase } from "../case.js";

function matmulCase(
  aLead: Shape,
  bLead: Shape,
  m: number,
  n: number,
  k: number,
  transA = false,
  transB = false,
): OpCase {
  const a = [...aLead, ...(transA ? [k, m] : [m, k])];
  const b = [...bLead, ...(transB ? [n, k] : [k, n])];
  const lead = broadcastShapes("matmul", aLead, bLead);
  return {
    op: "matmul",
    name: `matmul [${a}]${transA ? "^T" : ""} [${b}]${transB ? "^T" : ""}`,
    inputs: (r) => ({ a: r.normal(a), b: r.normal(b) }),
    run: (x) => ({ y: matmul(x["a"]!, x["b"]!, { transA, transB }) }),
    oracle: (x) => ({
      y: build([...lead, m, n], (index) => {
        const [i, j] = index.slice(-2) as [number, number];
        const batch = index.slice(0, -2);
        let sum = 0;
        for (let p = 0; p < k; p++)
          sum +=
            x["a"]![at(a, [...batch, ...(transA ? [p, i] : [i, p])])]! *
            x["b"]![at(b, [...batch, ...(transB ? [j, p] : [p, j])])]!;
        return sum;
      }),
    }),
  };
}

function linearCase(lead: Shape, inFeatures: number, outFeatures: number, hasBias: boolean): OpCase {
  return {
    op: "linear",
    name: `linear [${lead}] ${inFeatures} to ${outFeatures}${hasBias ? " with bias" : ""}`,
    inputs: (r) => ({
      x: r.normal([...lead, inFeatures]),
      w: r.normal([outFeatures, inFeatures]),
      ...(hasBias ? { bias: r.normal([outFeatures]) } : {}),
    }),
    run: ({ x, w, bias }) => ({ y: linear(x!, w!, { bias }) }),
    oracle: ({ x, w, bias }) => ({
      y: build([...lead, outFeatures], (index) => {
        const row = at([...lead, 1], [...index.slice(0, -1), 0]);
        const j = index.at(-1)!;
        let sum = bias?.[j] ?? 0;
        for (let p = 0; p < inFeatures; p++) sum += x![row * inFeatures + p]! * w![j * inFeatures + p]!;
        return sum;
      }),
    }),
  };
}

export const matmulCases: readonly OpCase[] = [
  ...[false, true].flatMap((ta) => [false, true].map((tb) => matmulCase([], [], 5, 7, 3, ta, tb))),
  matmulCase([], [], 1, 9, 4),
  matmulCase([], [], 1, 9, 4, false, true),
  matmulCase([], [], 9, 1, 5, true, false),
  matmulCase([], [], 3, 5, 0),
  matmulCase([], [], 0, 5, 2),
  matmulCase([2, 1], [3], 2, 3, 4),
  matmulCase([3], [], 4, 5, 2, false, true),
  // Long sums; central differences over so many elements would take minutes.
  { ...matmulCase([], [], 17, 6, 600, true, true), noGradient: true },
  linearCase([3], 5, 7, true),
  linearCase([2, 1], 6, 3, false),
  linearCase([1], 33, 2, true),
];
