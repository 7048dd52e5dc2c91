import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { expect, test } from "vitest";
import {
  add,
  matmul,
  mul,
  Rng,
  randomNormal,
  scope,
  selectiveScan,
  softplus,
  sum,
  tensor,
  valueAndGrad,
} from "./index.js";

test("a gradient flows through matmul, broadcasting and views, and nothing leaks", async () => {
  const backend = createCpuBackend({ poison: true });
  const rng = new Rng(1);
  const a = randomNormal(backend, [3, 4], rng, { dtype: "float64" });
  const b = randomNormal(backend, [4, 2], rng, { dtype: "float64" });
  const { value, gradients } = valueAndGrad(() => ({ loss: sum(mul(softplus(matmul(a, b)), 2)) }), [a, b]);
  expect(gradients.map((g) => g.shape)).toEqual([
    [3, 4],
    [4, 2],
  ]);
  await value.loss.item();
  for (const t of [a, b, value.loss, ...gradients]) t.dispose();
  expect(backend.memory().liveBuffers).toBe(0);
});

test.each([true, false])("scan fused=%s", async (fused) => {
  const backend = createCpuBackend({ poison: true, ...(fused ? {} : { fused: {} }) });
  const rng = new Rng(2);
  const [batch, length, dInner, dState] = [2, 5, 3, 4];
  const t = (shape: number[]) => randomNormal(backend, shape, rng, { dtype: "float64" });
  const args = {
    x: t([batch, length, dInner]),
    delta: t([batch, length, dInner]),
    A: tensor(
      backend,
      Float64Array.from({ length: 12 }, (_, i) => -1 - i / 7),
      [3, 4],
    ),
    B: t([batch, length, dState]),
    C: t([batch, length, dState]),
    D: t([dInner]),
    z: t([batch, length, dInner]),
    deltaBias: t([dInner]),
    initialState: t([batch, dInner, dState]),
  };
  const f = () =>
    scope(() => {
      const { y, finalState } = selectiveScan({ ...args, softplus: true });
      return { loss: add(sum(mul(y, y)), sum(finalState)) };
    });
  const { value, gradients } = valueAndGrad(f, Object.values(args));
  console.log(await value.loss.item(), (await Promise.all(gradients.map(async (g) => (await g.data())[1]))).join(" "));
});
