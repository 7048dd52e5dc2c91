/** The kernels' builds against each other: plain, with subgroups, and with f16 too, where the adapter has these. */
import type { Backend } from "@mamba-ts/backend";
import { createBackend } from "@mamba-ts/backend-webgpu";
import { Mamba } from "@mamba-ts/mamba";
import * as t from "@mamba-ts/tensor";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { adapterMissing } from "./adapter.js";
import { buildCases, valuesOf } from "./build-cases.js";
import { relativeError } from "./support.js";

describe.skipIf(adapterMissing !== undefined)("builds of the kernels", () => {
  /** The last one is the plain one. */
  let builds: Backend[];
  beforeAll(async () => {
    builds = await Promise.all(
      [{ dawn: { enable: ["vulkan_enable_f16_on_nvidia"] } }, { f16: false }, { f16: false, subgroups: false }].map(
        (options) => createBackend({ ...options, poison: true }),
      ),
    );
  });
  const offersF16 = (): boolean => /, f16( \(|$)/.test(builds[0]!.device);
  afterAll(() => {
    for (const backend of builds) {
      expect(backend.memory().liveBuffers).toBe(0);
      backend[Symbol.dispose]();
    }
  });

  test("the device says which was chosen", () => {
    const builtFor = /, (without subgroups|subgroups of \d+), (f16|f16 as float32)( \(software\))?$/;
    for (const { device } of builds) expect(device).toMatch(builtFor);
    expect(builds[2]!.device).toMatch(/, without subgroups, f16 as float32/);
    expect(builds[1]!.device).toMatch(/, f16 as float32/);
  });

  test.for(buildCases)("$name", async (buildCase, { skip }) => {
    if (buildCase.name.startsWith("products of f16")) skip(!offersF16(), `no shader-f16: ${builds[0]!.device}`);
    const all = await Promise.all(builds.map((backend) => valuesOf(buildCase, backend)));
    for (const values of all.slice(0, -1))
      for (const [i, [name, data]] of values.entries())
        expect([name, relativeError(data, all.at(-1)![i]![1]) < 2e-6]).toEqual([name, true]);
  });

  test("decoding steps", async () => {
    const models = builds.map((backend) =>
      Mamba.create({ dModel: 72, nLayer: 2, vocabSize: 40, dState: 20 }, { backend, seed: 5 }),
    );
    const logits = await Promise.all(
      models.map(async (model) => {
        using state = model.createState(2);
        for (let i = 0; i < 3; i++)
          t.scope(() => void model.forward([[i], [i + 5]], { state, into: state, logits: "none" }));
        const last = t.scope(() => ({
          logits: model.forward([[7], [9]], { state, into: state, logits: "last" }).logits!,
        }));
        const data = await last.logits.data();
        last.logits.dispose();
        return data;
      }),
    );
    for (const model of models) model.dispose();
    for (const data of logits.slice(0, -1)) expect(relativeError(data, logits.at(-1)!)).toBeLessThan(1e-5);
  });
});
