import { Mamba } from "@mamba-ts/mamba";
import * as t from "@mamba-ts/tensor";
import { capture } from "@mamba-ts/tensor/capture";
import { describe, expect, test } from "vitest";
import { createBackend, type WasmBackendOptions } from "../src/index.js";

const config = { dModel: 64, nLayer: 2, vocabSize: 256 };
const kinds: { readonly [name: string]: WasmBackendOptions } = {
  "one thread": { threads: 1 },
  "two threads": { threads: 2 },
  "two threads, poisoned": { threads: 2, poison: true },
  "a worker": { threads: 2, worker: true },
};

const code = (name: string) => expect.objectContaining({ code: name });
const floats = async (x: t.Tensor): Promise<number[]> => Array.from(await x.data());

describe.each(Object.entries(kinds))("capture, %s", (_, options) => {
  test.each(["float32", "bf16", "q8_0"] as const)(
    "decoding in %s gives what eager steps give, bit for bit",
    async (dtype) => {
      using backend = await createBackend(options);
      using model = Mamba.create(config, { backend, seed: 3, dtype });
      using state = model.createState(1);
      using twin = state.clone();
      using token = t.fromHost(backend, Int32Array.of(0), [1, 1], "int32");
      const captured = t.scope(() =>
        capture(backend, () => model.forward(token, { state: twin, into: twin, logits: "last" }).logits!),
      );
      for (let i = 0; i < 5; i++) {
        t.write(token, Int32Array.of((i * 37) % 256));
        // The capture itself was a step, on token 0.
        using eager = model.forward([[(i * 37) % 256]], { state, into: state, logits: "last" }).logits!;
        if (i > 0) captured.replay();
        using noise = t.mul(t.fill(backend, [64, 64], i), 3);
        expect(await floats(captured.result)).toEqual(await floats(eager));
        expect(noise.size).toBe(4096);
      }
      captured.result.dispose();
      captured[Symbol.dispose]();
    },
  );
});

test("what a capture works with is given back when it is disposed, and not before", async () => {
  using backend = await createBackend({ threads: 1 });
  using x = t.tensor(backend, [1, 2, 3]);
  const run = (): t.Tensor => t.scope(() => t.add(t.mul(x, 2), 1));
  run().dispose();
  const before = backend.memory();
  const captured = capture(backend, run);
  captured.result.dispose();
  expect(backend.memory()).toEqual(before);
  // The product and the sum are both gone, but not their memory.
  const others = Array.from({ length: 8 }, () => t.fill(backend, [3], 7));
  captured.replay();
  for (const other of others) expect(await floats(other)).toEqual([7, 7, 7]);
  captured[Symbol.dispose]();
  captured[Symbol.dispose]();
  expect(() => captured.replay()).toThrow(code("disposed"));
  for (const other of others) other.dispose();
});

test("what cannot be recorded is refused, and leaves the backend as it was", async () => {
  using backend = await createBackend({ threads: 1 });
  using x = t.tensor(backend, [1, 2, 3]);
  const refused = (fn: () => void) => expect(() => backend.capture!(fn)).toThrow(code("unsupported"));
  refused(() => t.write(x, Float32Array.of(4, 5, 6)));
  refused(() => backend.capture!(() => {}));
  let reading: Promise<unknown> | undefined;
  backend.capture!(() => {
    reading = x.data();
  })[Symbol.dispose]();
  await expect(reading).rejects.toEqual(code("unsupported"));
  expect(() =>
    backend.capture!(() => {
      throw new Error("fn");
    }),
  ).toThrow("fn");
  expect(await floats(x)).toEqual([1, 2, 3]);
  const capture = backend.capture!(() => {});
  refused(() => capture.replay());
  capture[Symbol.dispose]();
});

test("uploads inside a capture are constants of it", async () => {
  using backend = await createBackend({ threads: 1 });
  using x = t.tensor(backend, [1, 2]);
  const captured = capture(backend, () => t.scope(() => t.add(x, t.tensor(backend, [10, 20]))));
  t.write(x, Float32Array.of(3, 4));
  captured.replay();
  expect(await floats(captured.result)).toEqual([13, 24]);
  captured.result.dispose();
  captured[Symbol.dispose]();
});
