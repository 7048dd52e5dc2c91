import { fileURLToPath } from "node:url";
import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { relativeError } from "@mamba-ts/backend-testing";
import { openSafetensors, readTensor } from "@mamba-ts/checkpoint";
import { fileReader, openCheckpoint } from "@mamba-ts/checkpoint/node";
import { Rng, randomNormal, scope, valueAndGrad } from "@mamba-ts/tensor";
import { classificationLoss } from "@mamba-ts/vision-mamba";
import { loadVisionMambaFrom, toVimConfig, visionMambaTensors } from "@mamba-ts/vision-mamba/load";
import { describe, expect, test } from "vitest";

const folder = fileURLToPath(new URL("./fixtures", import.meta.url));

describe.each([
  ["fused", undefined],
  ["composed", {}],
] as const)("the reference's numbers, %s", (_, fused) => {
  test("logits and loss to 1e-5, every gradient to 1e-4", async () => {
    const backend = createCpuBackend({ poison: true, ...(fused === undefined ? {} : { fused }) });
    const { config, source } = await openCheckpoint(folder);
    const model = await loadVisionMambaFrom(config, source, { backend });
    await source.close();
    const golden = await openSafetensors(await fileReader(`${folder}/golden.safetensors`));
    const want = async (name: string) => {
      const t = await readTensor(golden, name, backend);
      const data = await t.data();
      t.dispose();
      return data;
    };
    const pixels = await readTensor(golden, "pixels", backend);
    const labels = await readTensor(golden, "labels", backend);
    const { logits } = model.forward(pixels);
    expect(relativeError(await logits.data(), await want("logits"))).toBeLessThan(1e-5);
    const named = [...model.namedParameters()];
    const { value, gradients } = valueAndGrad(
      () => ({ loss: classificationLoss(model.forward(pixels).logits, labels) }),
      named.map(([, p]) => p.value),
    );
    expect(relativeError(await value.loss.data(), await want("loss"))).toBeLessThan(1e-5);
    expect(named.map(([name]) => `grad.${name}`).sort()).toEqual(
      golden.names.filter((n) => n.startsWith("grad.")).sort(),
    );
    for (const [i, [name]] of named.entries())
      expect([name, relativeError(await gradients[i]!.data(), await want(`grad.${name}`)) < 1e-4]).toEqual([
        name,
        true,
      ]);
    for (const t of [pixels, labels, logits, value.loss, ...gradients]) t.dispose();
    await golden.close();
    model.dispose();
    expect(backend.memory().liveBuffers).toBe(0);
  });
});

test("what is written is what was read, bit for bit", async () => {
  const backend = createCpuBackend();
  const { config, source } = await openCheckpoint(folder);
  const model = await loadVisionMambaFrom(config, source, { backend });
  const written = visionMambaTensors(model);
  expect(written.map((t) => t.name).sort()).toEqual([...source.names].sort());
  for (const t of written) expect(Buffer.from(await t.bytes()).equals(await source.bytes(t.name))).toBe(true);
  expect(toVimConfig(model.config)).toMatchObject(config as object);
  await source.close();
});

test("loaded for larger images and closer patches, it runs; the class token's position stays", async () => {
  const backend = createCpuBackend();
  const { config, source } = await openCheckpoint(folder);
  const before = await loadVisionMambaFrom(config, source, { backend });
  const model = await loadVisionMambaFrom(config, source, { backend, imageSize: [20, 24], stride: 2 });
  await source.close();
  expect(model.config.grid).toEqual([9, 11]);
  const at = async (m: typeof model) => {
    const [position] = m.config.classPositions as [number];
    return Array.from(await m.posEmbed!.value.data()).slice(position * 32, (position + 1) * 32);
  };
  expect(await at(model)).toEqual(await at(before));
  const pixels = randomNormal(backend, [1, 3, 20, 24], new Rng(1));
  const logits = scope(() => model.forward(pixels).logits);
  expect((await logits.data()).every(Number.isFinite)).toBe(true);
  expect(() => before.forward(pixels)).toThrow(expect.objectContaining({ code: "shape" }));
});
