import { Mamba } from "@mamba-ts/mamba";
import { expect, test } from "vitest";

// Published sizes, from the configuration alone: no memory is taken for weights.
test.each([
  ["mamba-130m", 768, 24, 129_135_360],
  ["mamba-370m", 1024, 48, 371_516_416],
  ["mamba-790m", 1536, 48, 793_204_224],
  ["mamba-1.4b", 2048, 48, 1_372_178_432],
  ["mamba-2.8b", 2560, 64, 2_768_345_600],
])("%s", (_, dModel, nLayer, parameters) => {
  expect(new Mamba({ dModel, nLayer, vocabSize: 50280 }).parameterCount).toBe(parameters);
});
