import { fileURLToPath } from "node:url";
import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { relativeError } from "@mamba-ts/backend-testing";
import { openSafetensors, readTensor, type TensorSource } from "@mamba-ts/checkpoint";
import { fileReader, openCheckpoint } from "@mamba-ts/checkpoint/node";
import type { Mamba } from "@mamba-ts/mamba";
import { loadMambaFrom } from "@mamba-ts/mamba/load";
import { linearCrossEntropy, mean, reshape, scope, slice, type Tensor, tensor, valueAndGrad } from "@mamba-ts/tensor";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const folder = fileURLToPath(new URL("./fixtures", import.meta.url));

describe.each([
  ["fused", undefined],
  ["composed", {}],
] as const)("the reference's numbers, %s", (_, fused) => {
  const backend = createCpuBackend({ poison: true, ...(fused === undefined ? {} : { fused }) });
  let model: Mamba;
  let golden: TensorSource;
  let ids: number[][];

  const want = async (name: string) => {
    const t = await readTensor(golden, name, backend);
    const data = await t.data();
    t.dispose();
    return data;
  };

  beforeAll(async () => {
    const { config, source } = await openCheckpoint(folder);
    model = await loadMambaFrom(config, source, { backend });
    await source.close();
    golden = await openSafetensors(await fileReader(`${folder}/golden.safetensors`));
    const flat = Array.from(await want("input_ids"));
    const [batch, length] = golden.info("input_ids").shape as [number, number];
    ids = Array.from({ length: batch }, (__, b) => flat.slice(b * length, (b + 1) * length));
  });

  afterAll(async () => {
    await golden.close();
    model.dispose();
    expect(backend.memory().liveBuffers).toBe(0);
  });

  test("logits and hidden states to 1e-5", async () => {
    const { logits, hiddenStates } = scope(() => {
      const result = model.forward(ids, { hiddenStates: true });
      return { logits: result.logits!, hiddenStates: result.hiddenStates! };
    });
    expect(relativeError(await logits.data(), await want("logits"))).toBeLessThan(1e-5);
    expect(hiddenStates.length).toBe(model.config.nLayer + 1);
    for (const [i, h] of hiddenStates.entries())
      expect(relativeError(await h.data(), await want(`hidden_states.${i}`))).toBeLessThan(1e-5);
    for (const t of [logits, ...hiddenStates]) t.dispose();
  });

  test("loss and every gradient to 1e-4, with and without recomputation", async () => {
    const named = [...model.namedParameters()];
    for (const recompute of [false, true, "cheap"] as const) {
      const targets = tensor(backend, Int32Array.from(ids.flatMap((row) => row.slice(1))));
      const { value, gradients } = valueAndGrad(
        () => {
          const { hidden } = model.forward(ids, { logits: "none", recompute });
          const [batch, length, width] = hidden.shape as [number, number, number];
          const rows = reshape(slice(hidden, 1, 0, length - 1), [batch * (length - 1), width]);
          return { loss: mean(linearCrossEntropy(rows, model.headWeight, targets)) };
        },
        named.map(([, p]) => p.value),
      );
      expect(relativeError(await value.loss.data(), await want("loss"))).toBeLessThan(1e-5);
      for (const [i, [name]] of named.entries())
        expect([name, relativeError(await gradients[i]!.data(), await want(`grad.${name}`)) < 1e-4]).toEqual([
          name,
          true,
        ]);
      for (const t of [targets, value.loss, ...gradients] as Tensor[]) t.dispose();
    }
  });

  test("greedy tokens", async () => {
    const expected = Array.from(await want("generate.greedy"));
    const sequence = Array.from(await want("generate.prompt"));
    let state = model.createState(1);
    let next = sequence;
    while (sequence.length < expected.length) {
      const before = state;
      const step = scope(() => {
        const { logits, state: after } = model.forward([next], { state: before, logits: "last" });
        return { logits: logits!, after };
      });
      const scores = await step.logits.data();
      next = [scores.indexOf(Math.max(...scores))];
      sequence.push(...next);
      step.logits.dispose();
      before.dispose();
      state = step.after;
    }
    state.dispose();
    expect(sequence).toEqual(expected);
  });
});
