/** The kernels' builds, with subgroups and without, against each other, at sizes that use all of their threads and some of them. */
import type { Backend, DType } from "@mamba-ts/backend";
import { createBackend } from "@mamba-ts/backend-webgpu";
import { Mamba } from "@mamba-ts/mamba";
import * as t from "@mamba-ts/tensor";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { adapterMissing } from "./adapter.js";
import { relativeError } from "./support.js";

describe.skipIf(adapterMissing !== undefined)("builds of the kernels", () => {
  let builds: Backend[];
  beforeAll(async () => {
    builds = await Promise.all([true, false].map((subgroups) => createBackend({ subgroups, poison: true })));
  });
  afterAll(() => {
    for (const backend of builds) {
      expect(backend.memory().liveBuffers).toBe(0);
      backend[Symbol.dispose]();
    }
  });

  async function agree(run: (backend: Backend) => { readonly [name: string]: t.Tensor }): Promise<void> {
    const [a, b] = await Promise.all(
      builds.map(async (backend) => {
        const made = t.scope(() => run(backend));
        const values = await Promise.all(
          Object.entries(made).map(async ([name, x]) => [name, await x.data()] as const),
        );
        for (const x of Object.values(made)) x.dispose();
        return values;
      }),
    );
    for (const [i, [name, data]] of a!.entries())
      expect([name, relativeError(data, b![i]![1]) < 2e-6]).toEqual([name, true]);
  }
  const normal = (backend: Backend, seed: number, shape: readonly number[]): t.Tensor =>
    t.tensor(backend, new t.Rng(seed).normal(t.sizeOf(shape)), shape, "float32");

  test("the device says which was chosen", () => {
    expect(builds[1]!.device).toMatch(/, without subgroups/);
    expect(builds[0]!.device).toMatch(/, (without subgroups|subgroups of \d+)/);
  });

  test.each([
    ["float32", 768, 5],
    ["float32", 33, 70],
    ["f16", 2112, 12],
    ["q8_0", 96, 300],
  ] as const)("matrix-vector products, %s weights, %i inputs, %i outputs", async (dtype, k, n) => {
    await agree((backend) => {
      const weight = t.cast(normal(backend, 2, [n, k]), dtype as DType);
      return { y: t.linear(normal(backend, 1, [3, k]), weight) };
    });
  });

  test.each([7, 300, 2500])("norms of width %i and their gradients", async (width) => {
    await agree((backend) => {
      const [x, weight] = [normal(backend, 1, [5, width]), normal(backend, 2, [width])];
      const { value, gradients } = t.valueAndGrad(() => {
        const { y } = t.rmsNorm({ x, weight, eps: 1e-5 });
        return { loss: t.sum(t.mul(y, normal(backend, 3, [5, width]))), y };
      }, [x, weight]);
      return { y: value.y, gx: gradients[0]!, gweight: gradients[1]! };
    });
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
    expect(relativeError(logits[0]!, logits[1]!)).toBeLessThan(1e-5);
  });
});
