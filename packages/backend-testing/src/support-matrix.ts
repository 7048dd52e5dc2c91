import type { Backend } from "@mamba-ts/backend";
import { add, type DispatchEvent, scope, sum, valueAndGrad, watchDispatch } from "@mamba-ts/tensor";
import { type OpCase, RandomInputs } from "./case.js";
import { upload } from "./run-case.js";

export interface SupportRow {
  readonly op: string;
  readonly direction: "forward" | "backward";
  /** How many calls of the op's cases ran by a kernel of the backend, and how many by core's composition. */
  readonly fused: number;
  readonly composed: number;
}

/** Which fused ops a backend has kernels for, found by running the cases forwards and, where they have a gradient, backwards. */
export function supportMatrix(backend: Backend, cases: readonly OpCase[]): SupportRow[] {
  const counts = new Map<string, { fused: number; composed: number }>();
  const note = ({ op, direction, how }: DispatchEvent): void => {
    const key = `${op} ${direction}`;
    const row = counts.get(key) ?? { fused: 0, composed: 0 };
    row[how]++;
    counts.set(key, row);
  };
  for (const opCase of cases) watchDispatch(note, () => exercise(opCase, backend));
  return [...counts].sort().map(([key, row]) => {
    const [op, direction] = key.split(" ") as [string, "forward" | "backward"];
    return { op, direction, ...row };
  });
}

/** The matrix as a table for people. */
export function formatMatrix(rows: readonly SupportRow[]): string {
  const how = ({ fused, composed }: SupportRow): string =>
    composed === 0 ? "fused" : fused === 0 ? "composed" : `fused in ${fused} of ${fused + composed} calls`;
  return rows.map((row) => `${row.op.padEnd(20)} ${row.direction.padEnd(9)} ${how(row)}`).join("\n");
}

/** Runs a case without looking at what comes out. */
export function exercise(opCase: OpCase, backend: Backend): void {
  scope(() => {
    const inputs = opCase.inputs(new RandomInputs(1));
    const tensors = upload(inputs, backend, "float32");
    if (opCase.noGradient === true) {
      opCase.run(tensors, backend);
      return;
    }
    const floats = Object.values(tensors).filter((t) => t.dtype !== "int32");
    valueAndGrad(
      () => ({
        loss: Object.values(opCase.run(tensors, backend))
          .map((t) => sum(t))
          .reduce((a, b) => add(a, b)),
      }),
      floats,
    );
  });
}
