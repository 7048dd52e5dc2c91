import type { Backend } from "@mamba-ts/backend";
import { watchDispatch } from "@mamba-ts/tensor";
import type { OpCase } from "./case.js";
import { runCase } from "./run-case.js";

export interface SupportRow {
  readonly op: string;
  readonly direction: "forward" | "backward";
  /** How many calls of the op's cases ran by a kernel of the backend, and how many by core's composition. */
  readonly fused: number;
  readonly composed: number;
}

/** Which fused ops a backend has kernels for, found by running the cases. */
export async function supportMatrix(backend: Backend, cases: readonly OpCase[]): Promise<SupportRow[]> {
  const counts = new Map<string, { fused: number; composed: number }>();
  for (const opCase of cases) {
    let pending: Promise<unknown> = Promise.resolve();
    watchDispatch(
      ({ op, direction, how }) => {
        const key = `${op} ${direction}`;
        const row = counts.get(key) ?? { fused: 0, composed: 0 };
        row[how]++;
        counts.set(key, row);
      },
      () => {
        pending = runCase(opCase, backend);
      },
    );
    await pending;
  }
  return [...counts].sort().map(([key, row]) => {
    const [op, direction] = key.split(" ") as [string, "forward" | "backward"];
    return { op, direction, ...row };
  });
}

/** The matrix as a table for people. */
export function formatMatrix(rows: readonly SupportRow[]): string {
  const how = ({ fused, composed }: SupportRow): string => (composed === 0 ? "fused" : fused === 0 ? "composed" : `fused in ${fused} of ${fused + composed} calls`);
  return rows.map((row) => `${row.op.padEnd(20)} ${row.direction.padEnd(9)} ${how(row)}`).join("\n");
}
