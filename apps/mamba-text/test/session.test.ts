import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { ByteTokenizer } from "@mamba-ts/byte-io";
import { Mamba } from "@mamba-ts/mamba";
import { describe, expect, test } from "vitest";
import { say } from "../src/session.js";

const config = { dModel: 16, nLayer: 2, vocabSize: 256, dState: 4 };

/** The same weights on a backend of their own, as another process would have them. */
function freshSession() {
  const backend = createCpuBackend();
  return { backend, session: { model: Mamba.create(config, { backend, seed: 7 }), tokenizer: new ByteTokenizer() } };
}

async function tokens(
  session: Parameters<typeof say>[0],
  from: string | Uint8Array,
  maxTokens: number,
  temperature = 0,
) {
  const ids: number[] = [];
  const saved = await say(session, from, { maxTokens, temperature }, ({ id }) => ids.push(id));
  return { ids, saved };
}

describe("a saved session", () => {
  test.each([1, 2, 7, 23])("goes on after %i tokens, in a fresh model, as if it had not stopped", async (split) => {
    const whole = await tokens(freshSession().session, "A river", 24);
    const first = await tokens(freshSession().session, "A river", split);
    const second = await tokens(freshSession().session, first.saved, 24 - split);
    expect([...first.ids, ...second.ids]).toEqual(whole.ids);
    // Not a constant, which any state would continue alike.
    expect(new Set(whole.ids).size).toBeGreaterThan(1);
    expect(second.saved).toEqual(whole.saved);
  });

  test("depends on the state: another prompt's goes on differently", async () => {
    const a = await tokens(freshSession().session, "A river", 5);
    const b = await tokens(freshSession().session, "Seventeen lamps", 5);
    b.saved.set(a.saved.subarray(0, 4)); // the same last token
    const [fromA, fromB] = [
      await tokens(freshSession().session, a.saved, 1),
      await tokens(freshSession().session, b.saved, 1),
    ];
    expect(fromA.saved.subarray(4)).not.toEqual(fromB.saved.subarray(4));
  });

  test("frees what it made", async () => {
    const { backend, session } = freshSession();
    const before = backend.memory();
    const { saved } = await tokens(session, "A river", 3);
    await tokens(session, saved, 3);
    expect(backend.memory()).toEqual(before);
  });

  test.each([
    ["no bytes", new Uint8Array(0)],
    ["other bytes", new Uint8Array(64).fill(1)],
  ])("refuses %s", async (_, bytes) => {
    await expect(tokens(freshSession().session, bytes, 1)).rejects.toMatchObject({ code: "checkpoint" });
  });
});
