/** A whole Mamba on the device: the reference's numbers, and steps that equal the whole. */
import type { Backend } from "@mamba-ts/backend";
import { createBackend } from "@mamba-ts/backend-webgpu";
import { memoryReader, openSafetensors, readTensor, type TensorSource } from "@mamba-ts/checkpoint";
import type { Mamba } from "@mamba-ts/mamba";
import { loadMambaFrom } from "@mamba-ts/mamba/load";
import { linearCrossEntropy, mean, reshape, sample, scope, slice, tensor, valueAndGrad } from "@mamba-ts/tensor";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { adapterMissing } from "./adapter.js";
import { readFixture, relativeError } from "./support.js";

const openFixture = async (name: string): Promise<TensorSource> =>
  openSafetensors(memoryReader(await readFixture(name), name));

describe.skipIf(adapterMissing !== undefined).each([
  ["fused", {}],
  ["with default limits", { minimal: true }],
  ["composed", { fused: {} }],
] as const)("the reference's numbers, %s", (_, options) => {
  let backend: Backend;
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
    backend = await createBackend({ poison: true, ...options });
    const config: unknown = JSON.parse(new TextDecoder().decode(await readFixture("config.json")));
    const source = await openFixture("model.safetensors");
    model = await loadMambaFrom(config, source, { backend });
    await source.close();
    golden = await openFixture("golden.safetensors");
    const flat = Array.from(await want("input_ids"));
    const [batch, length] = golden.info("input_ids").shape as [number, number];
    ids = Array.from({ length: batch }, (__, b) => flat.slice(b * length, (b + 1) * length));
  });

  afterAll(async () => {
    await golden.close();
    model.dispose();
    expect(backend.memory().liveBuffers).toBe(0);
    backend[Symbol.dispose]();
  });

  test("logits to 5e-5", async () => {
    const { logits } = scope(() => ({ logits: model.forward(ids).logits! }));
    expect(relativeError(await logits.data(), await want("logits"))).toBeLessThan(5e-5);
    logits.dispose();
  });

  test("loss and every gradient to 5e-4", async () => {
    const named = [...model.namedParameters()];
    const targets = tensor(backend, Int32Array.from(ids.flatMap((row) => row.slice(1))));
    const { value, gradients } = valueAndGrad(
      () => {
        const { hidden } = model.forward(ids, { logits: "none" });
        const [batch, length, width] = hidden.shape as [number, number, number];
        const rows = reshape(slice(hidden, 1, 0, length - 1), [batch * (length - 1), width]);
        return { loss: mean(linearCrossEntropy(rows, model.headWeight, targets)) };
      },
      named.map(([, p]) => p.value),
    );
    expect(relativeError(await value.loss.data(), await want("loss"))).toBeLessThan(5e-5);
    const errors: { [name: string]: number } = {};
    for (const [i, [name]] of named.entries()) {
      const error = relativeError(await gradients[i]!.data(), await want(`grad.${name}`));
      if (!(error < 5e-4)) errors[name] = error;
    }
    expect(errors).toEqual({});
    for (const t of [targets, value.loss, ...gradients]) t.dispose();
  });

  test("greedy tokens, drawn on the device, with a state that advances in place", async () => {
    const expected = Array.from(await want("generate.greedy"));
    const prompt = Array.from(await want("generate.prompt"));
    using state = model.createState(1);
    const drawn: number[] = [];
    let token = scope(() => {
      const { logits } = model.forward([prompt], { state, into: state, logits: "last" });
      return sample(reshape(logits!, [1, -1]), { temperature: 0 }).token;
    });
    while (prompt.length + drawn.length < expected.length) {
      drawn.push(await token.item());
      const before = token;
      token = scope(() => {
        const { logits } = model.forward(reshape(before, [1, 1]), { state, into: state, logits: "last" });
        return sample(reshape(logits!, [1, -1]), { temperature: 0 }).token;
      });
      before.dispose();
    }
    token.dispose();
    expect([...prompt, ...drawn]).toEqual(expected);
  });
});
