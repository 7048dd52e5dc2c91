import { Jamba } from "@mamba-ts/jamba";
import { parseJambaConfig } from "@mamba-ts/jamba/load";
import { expect, test } from "vitest";

// Published sizes, from the configuration alone: no memory is taken for weights.
test.each([
  // 103,140,646,656 bytes of bf16 in the published index; "12B active, 52B".
  ["Jamba-v0.1, Jamba-1.5-Mini", {}, 51_570_323_328, 12.1],
  // "94B active, 398B".
  [
    "Jamba-1.5-Large",
    { hidden_size: 8192, intermediate_size: 24576, num_hidden_layers: 72, num_attention_heads: 64 },
    398_555_145_696,
    94.1,
  ],
])("%s", (_, json, parameters, active) => {
  const published = { model_type: "jamba", hidden_size: 4096, num_hidden_layers: 32, vocab_size: 65536 };
  const model = new Jamba(parseJambaConfig({ ...published, ...json }));
  expect(model.parameterCount).toBe(parameters);
  expect(Math.round(model.activeParameterCount / 1e8) / 10).toBe(active);
});
