import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { Linear, nonFiniteParameters } from "@mamba-ts/nn";
import { Rng, tensor } from "@mamba-ts/tensor";
import { expect, test } from "vitest";

test.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])("%d is found by name", async (bad) => {
  using backend = createCpuBackend();
  const layer = new Linear(3, 2, { bias: true }).initialise(backend, new Rng(1), "bf16");
  expect(await nonFiniteParameters(layer)).toEqual([]);
  layer.bias!.value.dispose();
  layer.bias!.value = tensor(backend, [1, bad], [2], "float32");
  expect(await nonFiniteParameters(layer)).toEqual(["bias"]);
  layer.dispose();
  expect(backend.memory().liveBuffers).toBe(0);
});
