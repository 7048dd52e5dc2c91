import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { encodeSafetensors, memoryReader, openSafetensors, type TensorToWrite } from "@mamba-ts/checkpoint";
import { Mamba } from "@mamba-ts/mamba";
import { scope } from "@mamba-ts/tensor";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";

const backend = createCpuBackend({ poison: true });
const model = Mamba.create({ dModel: 6, nLayer: 2, vocabSize: 11, dState: 3 }, { backend, seed: 5 });
const resting = backend.memory().liveBuffers;
let saved: Uint8Array;

beforeAll(async () => {
  using state = model.createState(2);
  scope(
    () =>
      void model.forward(
        [
          [1, 2, 3],
          [4, 5, 6],
        ],
        {
          state,
          into: state,
          logits: "none",
          segments: [
            [7, 7, 7],
            [0, 0, 1],
          ],
        },
      ),
  );
  saved = await state.save();
});
afterEach(() => expect(backend.memory().liveBuffers).toBe(resting));
afterAll(() => model.dispose());

/** The saved state, with a part of it changed. */
async function changed(
  edit: (tensors: TensorToWrite[], metadata: Record<string, string>) => void,
): Promise<Uint8Array> {
  const source = await openSafetensors(memoryReader(saved, "saved"));
  const tensors: TensorToWrite[] = [];
  for (const name of source.names) {
    const bytes = await source.bytes(name);
    tensors.push({ ...source.info(name), name, bytes: () => bytes });
  }
  const metadata = { ...source.metadata };
  edit(tensors, metadata);
  return encodeSafetensors(tensors, metadata);
}

test("restored elsewhere it is the same state, segments included", async () => {
  using restored = await model.restoreState(saved);
  expect([...restored.segments]).toEqual([7, 1]);
  expect(await restored.save()).toEqual(saved);
});

describe("bytes that are no state of this model are refused, and nothing stays allocated", () => {
  const rename = (t: TensorToWrite, shape: number[]): TensorToWrite => ({ ...t, shape });
  const cases: [string, (tensors: TensorToWrite[], metadata: Record<string, string>) => void, RegExp][] = [
    ["another format", (_, m) => void (m["format"] = "other"), /no saved state/],
    ["no segments", (_, m) => void delete m["segments"], /segments are no list/],
    ["segments that are no JSON", (_, m) => void (m["segments"] = "[1,"), /segments are no list/],
    ["segments that are no ids", (_, m) => void (m["segments"] = '[0,"a"]'), /segments are no list/],
    [
      "another batch",
      (_, m) => void (m["segments"] = "[0]"),
      /layers\.0\.conv is \[2, 3, 12\], this model's is \[1, 3, 12\]/,
    ],
    ["a layer missing", (t) => void t.splice(0, 2), /layers, the model 2/],
    [
      "the last tensor of another shape",
      (t) => {
        const i = t.findIndex(({ name }) => name === "layers.1.ssm");
        t[i] = rename(t[i]!, [2, 3, 12]);
      },
      /layers\.1\.ssm is \[2, 3, 12\], this model's is \[2, 12, 3\]/,
    ],
  ];
  test.each(cases)("%s", async (_, edit, message) => {
    await expect(model.restoreState(await changed(edit))).rejects.toThrow(message);
  });

  test("cut off", async () => {
    await expect(model.restoreState(saved.subarray(0, saved.length - 1))).rejects.toThrow(/state/);
  });
});
