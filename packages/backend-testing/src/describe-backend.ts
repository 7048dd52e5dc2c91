import type { Backend } from "@mamba-ts/backend";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { OpCase } from "./case.js";
import { allCases } from "./cases/index.js";
import { composedOnly } from "./composed-only.js";
import { survivors } from "./mutants.js";
import { runCase, type Tolerance, tolerances } from "./run-case.js";
import { formatMatrix, supportMatrix } from "./support-matrix.js";

export interface ConformanceOptions {
  /** Relative norms for float32; 1e-5 and 1e-4 by default. */
  readonly tolerance?: Tolerance;
  /** All cases by default; add the backend's own. */
  readonly cases?: readonly OpCase[];
}

/**
 * The whole suite for one backend, from one call in a vitest file: every case forwards and, where it has one, its gradient, with the
 * backend's fused ops and without, in every float dtype it has; leaks; mutants that must be rejected; the support matrix.
 */
export function describeBackend(
  name: string,
  create: () => Promise<Backend> | Backend,
  { tolerance = tolerances.float32, cases = allCases }: ConformanceOptions = {},
): void {
  describe(`backend ${name}`, () => {
    let backend: Backend;
    beforeAll(async () => {
      backend = await create();
    });
    afterAll(() => backend[Symbol.dispose]());

    for (const how of ["fused", "composed"] as const)
      for (const dtype of ["float32", "float64"] as const)
        describe(`${how}, ${dtype}`, () => {
          for (const opCase of cases)
            if (opCase.dtypes?.includes(dtype) !== false)
              test(opCase.name, async ({ skip }) => {
                if (!backend.dtypes.has(dtype)) skip(`${name} has no ${dtype}`);
                const subject = how === "fused" ? backend : composedOnly(backend);
                expect(
                  await runCase(opCase, subject, {
                    dtype,
                    tolerance: dtype === "float32" ? tolerance : tolerances.float64,
                  }),
                ).toEqual([]);
              });
        });

    test("every mutant is rejected", async () => {
      const { survivors: alive, tried } = await survivors(backend, cases);
      expect(tried).toBeGreaterThan(5);
      expect(alive).toEqual([]);
    });

    test("support matrix", () => {
      const rows = supportMatrix(backend, cases);
      expect(rows.length).toBeGreaterThan(0);
      console.log(`${name} (${backend.device})\n${formatMatrix(rows)}`);
    });

    test("required dtypes, and no buffer left", () => {
      expect([backend.dtypes.has("float32"), backend.dtypes.has("int32")]).toEqual([true, true]);
    });
  });
}
