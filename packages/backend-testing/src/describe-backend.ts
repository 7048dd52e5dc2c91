import type { Backend } from "@mamba-ts/backend";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { benchBackend, formatBench } from "./bench.js";
import { checkCapture } from "./capture-checks.js";
import type { OpCase } from "./case.js";
import { allCases } from "./cases/index.js";
import { composedOnly } from "./composed-only.js";
import { type Mode, runCase, type Tolerance, tolerances } from "./run-case.js";
import { formatMatrix, supportMatrix } from "./support-matrix.js";
import { survivors } from "./survivors.js";

export interface ConformanceOptions {
  /** Relative norms for float32; 1e-5 and 1e-4 by default. */
  readonly tolerance?: Tolerance;
  /** All cases by default; add the backend's own. */
  readonly cases?: readonly OpCase[];
  /** What is checked; all but "bench" by default, which prints how long operations take (a time never decides a test). */
  readonly modes?: readonly (Mode | "bench")[];
}

/**
 * The whole suite for one backend, from one call in a vitest file: every case forwards and, where it has one, its gradient, with the
 * backend's fused ops and without, in every float dtype it has; leaks; mutants that must be rejected; the support matrix; on request
 * a bench.
 */
export function describeBackend(
  name: string,
  create: () => Promise<Backend> | Backend,
  {
    tolerance = tolerances.float32,
    cases = allCases,
    modes = ["forward", "gradient", "leak"],
  }: ConformanceOptions = {},
): void {
  describe(`backend ${name}`, () => {
    let backend: Backend;
    /** What a backend keeps for itself. */
    let own = 0;
    beforeAll(async () => {
      backend = await create();
      own = backend.memory().liveBuffers;
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
                    modes: modes.filter((mode) => mode !== "bench"),
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

    test("capture", async ({ skip }) => {
      if (backend.capture === undefined) skip(`${name} has no capture`);
      expect(await checkCapture(backend)).toEqual([]);
    });

    test("support matrix", () => {
      const rows = supportMatrix(backend, cases);
      expect(rows.length).toBeGreaterThan(0);
      console.log(`${name} (${backend.device})\n${formatMatrix(rows)}`);
    });

    test.runIf(modes.includes("bench"))(
      "bench",
      async () => {
        const rows = await benchBackend(backend);
        expect(rows.length).toBeGreaterThan(0);
        console.log(`${name} (${backend.device})\n${formatBench(rows)}`);
      },
      600_000,
    );

    test("required dtypes", () => {
      expect([backend.dtypes.has("float32"), backend.dtypes.has("int32")]).toEqual([true, true]);
    });

    // The last one: after every case and every mutant.
    test("no buffer is left", () => {
      expect(backend.memory().liveBuffers).toBe(own);
    });
  });
}
