import { fileURLToPath } from "node:url";
import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { relativeError } from "@mamba-ts/backend-testing";
import { openSafetensors, readTensor, type TensorSource } from "@mamba-ts/checkpoint";
import { fileReader, openCheckpoint } from "@mamba-ts/checkpoint/node";
import type { Jamba } from "@mamba-ts/jamba";
import { loadJambaFrom } from "@mamba-ts/jamba/load";
import { concat, scope, type Tensor, valueAndGrad } from "@mamba-ts/tensor";
import { languageModelLoss } from "@mamba-ts/train";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const folder = fileURLToPath(new URL("./fixtures", import.meta.url));

describe.each([
  ["fused", undefined],
  ["composed", {}],
] as const)("the reference's numbers, %s", (_, fused) => {
  const backend = createCpuBackend({ poison: true, ...(fused === undefined ? {} : { fused }) });
  let model: Jamba;
  let golden: TensorSource;
  let ids: Int32Array[];

  const want = async (name: string) => {
    const t = await readTensor(golden, name, backend);
    const data = await t.data();
    t.dispose();
    return data;
  };

  beforeAll(async () => {
    const { config, source } = await openCheckpoint(folder);
    model = await loadJambaFrom(config, source, { backend });
    await source.close();
    golden = await openSafetensors(await fileReader(`${folder}/golden.safetensors`));
    const flat = Int32Array.from(await want("input_ids"));
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
      expect([i, relativeError(await h.data(), await want(`hidden_states.${i}`)) < 1e-5]).toEqual([i, true]);
    for (const t of [logits, ...hiddenStates]) t.dispose();
  });

  test("only the last positions' logits, as many as asked for", async () => {
    const all = await want("logits");
    const logits = scope(() => model.forward(ids, { logits: 3 }).logits!);
    expect(logits.shape).toEqual([2, 3, 128]);
    const got = await logits.data();
    for (const b of [0, 1])
      expect(
        relativeError(got.slice(b * 384, (b + 1) * 384), all.slice((b * 33 + 30) * 128, (b + 1) * 33 * 128)),
      ).toBeLessThan(1e-5);
    logits.dispose();
  });

  test("auxiliary loss to 1e-5, loss to 1e-5 and every gradient to 1e-4, with and without recomputation", async () => {
    const aux = scope(() => model.forward(ids, { logits: "none", train: true }).auxLoss!);
    expect(relativeError(await aux.data(), await want("aux_loss"))).toBeLessThan(1e-5);
    aux.dispose();
    const named = [...model.namedParameters()];
    for (const recompute of [false, true, "cheap"] as const) {
      const { value, gradients } = valueAndGrad(
        () => ({ loss: languageModelLoss(model, { tokens: ids }, { recompute, lastToken: true }).loss }),
        named.map(([, p]) => p.value),
      );
      expect(relativeError(await value.loss.data(), await want("loss"))).toBeLessThan(1e-5);
      const byName = new Map<string, Tensor>(named.map(([name], i) => [name, gradients[i]!]));
      const packed: Tensor[] = [];
      for (const [name, gate] of [...byName])
        if (name.endsWith("experts.gate_proj")) {
          const both = concat([gate, byName.get(name.replace("gate_proj", "up_proj"))!], 1);
          packed.push(both);
          byName.set(name.replace("gate_proj", "gate_up_proj"), both);
          byName.delete(name);
          byName.delete(name.replace("gate_proj", "up_proj"));
        }
      const wanted = golden.names.filter((name) => name.startsWith("grad."));
      expect([...byName.keys()].map((name) => `grad.${name}`).sort()).toEqual([...wanted].sort());
      // A router's gradient is partly that of its own loss, which is small: only so is it seen.
      for (const [name, g] of byName)
        expect([
          name,
          relativeError(await g.data(), await want(`grad.${name}`)) < (name.includes("router") ? 5e-6 : 1e-4),
        ]).toEqual([name, true]);
      for (const t of [value.loss, ...gradients, ...packed]) t.dispose();
    }
  });

  test.each([false, true])("greedy tokens, advancing in place: %s", async (inPlace) => {
    const expected = Array.from(await want("generate.greedy"));
    const sequence = Array.from(await want("generate.prompt"));
    let state = model.createState(1);
    let next = sequence;
    while (sequence.length < expected.length) {
      const before = state;
      const step = scope(() => {
        const result = model.forward([next], { state: before, ...(inPlace ? { into: before } : {}), logits: "last" });
        return { logits: result.logits!, after: result.state };
      });
      const scores = await step.logits.data();
      next = [scores.indexOf(Math.max(...scores))];
      sequence.push(...next);
      step.logits.dispose();
      if (step.after !== before) before.dispose();
      state = step.after;
    }
    state.dispose();
    expect(sequence).toEqual(expected);
  });
});
