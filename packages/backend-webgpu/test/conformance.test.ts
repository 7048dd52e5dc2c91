import { describeBackend } from "@mamba-ts/backend-testing";
import { allCases, runCase } from "@mamba-ts/backend-testing/cases";
import { createBackend } from "@mamba-ts/backend-webgpu";
import { describe, expect, test } from "vitest";
import { adapterMissing } from "./adapter.js";

describe.skipIf(adapterMissing !== undefined)("on this machine's adapter", () => {
  const tolerance = { forward: 5e-5, gradient: 5e-4 };
  describeBackend("webgpu", () => createBackend({ poison: true }), { tolerance });

  // The kernels with more operands than such a device binds go without those that are absent, or are composed.
  test("a block's step with WebGPU's default limits", async () => {
    using backend = await createBackend({ poison: true, minimal: true });
    const cases = allCases.filter(({ op }) => op === "mambaStep");
    expect(cases.length).toBeGreaterThan(3);
    for (const opCase of cases)
      expect([opCase.name, await runCase(opCase, backend, { dtype: "float32", tolerance })]).toEqual([opCase.name, []]);
  });
});
