import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { Mamba, type MambaConfig, type MambaState } from "@mamba-ts/mamba";
import {
  add,
  linearCrossEntropy,
  mean,
  mul,
  Rng,
  reshape,
  sum,
  type Tensor,
  tensor,
  valueAndGrad,
} from "@mamba-ts/tensor";
import fc from "fast-check";
import { describe, expect, test } from "vitest";

const vocabSize = 11;
const configs: { readonly [name: string]: MambaConfig } = {
  "rms norm, tied": { dModel: 8, nLayer: 2, vocabSize, dState: 3 },
  "layer norm, untied, biases": {
    dModel: 6,
    nLayer: 2,
    vocabSize,
    dState: 2,
    dConv: 3,
    norm: "layer",
    tieEmbeddings: false,
    bias: true,
  },
  "FalconMamba's norms, wide": {
    dModel: 4,
    nLayer: 1,
    vocabSize,
    dState: 5,
    dConv: 2,
    expand: 3,
    innerNorm: "plain",
    convBias: false,
  },
};

const row = fc.array(fc.integer({ min: 0, max: vocabSize - 1 }), { minLength: 1, maxLength: 9 });

/** Logits of every token, and the state's tensors, as plain arrays; everything is freed. */
async function run(model: Mamba, ids: readonly number[], cuts: readonly number[], segments?: readonly number[]) {
  const logits: number[] = [];
  let state: MambaState | undefined;
  const bounds = [...new Set([0, ...cuts.filter((c) => c > 0 && c < ids.length), ids.length])].sort((a, b) => a - b);
  for (const [i, end] of bounds.entries()) {
    if (i === 0) continue;
    const start = bounds[i - 1]!;
    const result = model.forward([ids.slice(start, end)], {
      state,
      segments: segments === undefined ? undefined : [segments.slice(start, end)],
    });
    logits.push(...(await result.logits!.data()));
    state?.dispose();
    result.logits!.dispose();
    result.hidden.dispose();
    state = result.state;
  }
  const memory = await stateNumbers(state!);
  state!.dispose();
  return { logits, memory };
}

async function stateNumbers(state: MambaState): Promise<number[]> {
  const parts = await Promise.all(state.layers.flatMap(({ conv, ssm }) => [conv.data(), ssm.data()]));
  return parts.flatMap((p) => Array.from(p));
}

function expectClose(got: readonly number[], want: readonly number[], tolerance = 1e-5): void {
  expect(got.length).toBe(want.length);
  expect(Math.hypot(...got.map((g, i) => g - want[i]!))).toBeLessThanOrEqual(
    tolerance * Math.max(1e-3, Math.hypot(...want)),
  );
}

describe.each(["fused", "composed"])("%s", (how) => {
  describe.each(Object.keys(configs))("%s", (name) => {
    const backend = createCpuBackend({ poison: true, ...(how === "fused" ? {} : { fused: {} }) });
    const model = Mamba.create(configs[name]!, { backend, seed: 5 });
    const resting = backend.memory().liveBuffers;
    const check = (property: fc.IAsyncProperty<unknown>) =>
      fc
        .assert(property as fc.IAsyncProperty<unknown>, { numRuns: 12 })
        .then(() => expect(backend.memory().liveBuffers).toBe(resting));

    test("step by step = whole = any chunking", async () => {
      await check(
        fc.asyncProperty(row, fc.array(fc.nat(8)), async (ids, cuts) => {
          const whole = await run(model, ids, []);
          for (const chunks of [cuts, ids.map((_, i) => i)]) {
            const pieces = await run(model, ids, chunks);
            expectClose(pieces.logits, whole.logits);
            expectClose(pieces.memory, whole.memory);
          }
        }),
      );
    });

    test("packed = separate, however the packed row is cut", async () => {
      await check(
        fc.asyncProperty(row, row, fc.array(fc.nat(17)), async (a, b, cuts) => {
          const packed = await run(model, [...a, ...b], cuts, [...a.map(() => 3), ...b.map(() => 7)]);
          const [first, second] = [await run(model, a, []), await run(model, b, [])];
          expectClose(packed.logits, [...first.logits, ...second.logits]);
          expectClose(packed.memory, second.memory);
        }),
      );
    });

    test("padded anywhere = unpadded", async () => {
      await check(
        fc.asyncProperty(
          row,
          fc.array(fc.boolean(), { minLength: 9, maxLength: 20 }),
          fc.array(fc.nat(20)),
          async (ids, places, cuts) => {
            // Padding before, between and after the tokens, of an arbitrary token.
            const [padded, segments]: [number[], number[]] = [[], []];
            let next = 0;
            for (const isReal of [...places, ...ids.map(() => true), false, false]) {
              const take = isReal && next < ids.length;
              padded.push(take ? ids[next++]! : 1);
              segments.push(take ? 0 : -1);
            }
            const got = await run(model, padded, cuts, segments);
            const want = await run(model, ids, []);
            expectClose(
              got.logits.filter((_, i) => segments[Math.floor(i / vocabSize)] === 0),
              want.logits,
            );
            expectClose(got.memory, want.memory);
          },
        ),
      );
    });

    test("causal: later tokens change nothing before them", async () => {
      await check(
        fc.asyncProperty(row, row, async (a, b) => {
          const longer = await run(model, [...a, ...b], []);
          expectClose(longer.logits.slice(0, a.length * vocabSize), (await run(model, a, [])).logits, 1e-6);
        }),
      );
    });

    test("the state is a value: cloned, saved, restored, rewound, advanced in place", async () => {
      const { state, logits, hidden } = model.forward([[1, 2, 3]]);
      const before = await stateNumbers(state);
      const clone = state.clone();
      const restored = await model.restoreState(await state.save());
      const into = state.clone();
      const next = model.forward([[4]], { state });
      const inPlace = model.forward([[4]], { state: into, into });
      expect(inPlace.state).toBe(into);
      expect(await stateNumbers(into)).toEqual(await stateNumbers(next.state));
      for (const s of [state, clone, restored]) expect(await stateNumbers(s)).toEqual(before);
      for (const t of [logits!, hidden, next.logits!, next.hidden, inPlace.logits!, inPlace.hidden]) t.dispose();
      for (const s of [state, clone, restored, into, next.state]) s.dispose();
      expect(backend.memory().liveBuffers).toBe(resting);
    });

    test("states: all gives the state of every segment", async () => {
      const segments = [[0, 0, 1, 1, 1, 2, -1]];
      const result = model.forward([[1, 2, 3, 4, 5, 6, 0]], { segments, states: "all" });
      expect(result.segmentStates!.map(({ row: r, id }) => [r, id])).toEqual([
        [0, 0],
        [0, 1],
        [0, 2],
      ]);
      for (const [i, ids] of [[1, 2], [3, 4, 5], [6]].entries())
        expectClose(await stateNumbers(result.segmentStates![i]!.state), (await run(model, ids, [])).memory);
      for (const s of [result.state, ...result.segmentStates!.map((x) => x.state)]) s.dispose();
      result.hidden.dispose();
      result.logits!.dispose();
    });
  });
});

describe.each(["fused", "composed"])(
  "gradients of the whole model in float64 against central differences, %s",
  (how) => {
    test.each(Object.keys(configs))("%s", async (name) => {
      const backend = createCpuBackend({ poison: true, ...(how === "fused" ? {} : { fused: {} }) });
      const model = Mamba.create(configs[name]!, { backend, seed: 2, dtype: "float64" });
      const rng = new Rng(3);
      const state = model.createState(1);
      for (const t of state.layers.flatMap(({ conv, ssm }) => [conv, ssm]))
        backend.write(
          t.buf,
          rng.normal(t.size).map((z) => 0.5 * z),
        );
      const targets = tensor(backend, Int32Array.of(2, 3, 4));
      // The loss sees the logits, and the final state.
      const objective = () => {
        const { hidden, state: after } = model.forward([[1, 2, 3]], { state, logits: "none" });
        const memory = after.layers
          .map(({ conv, ssm }) => add(sum(mul(conv, conv)), sum(mul(ssm, ssm))))
          .reduce((x, y) => add(x, y));
        return {
          loss: add(
            mean(linearCrossEntropy(reshape(hidden, [3, hidden.shape[2]!]), model.headWeight, targets)),
            mul(memory, 0.1),
          ),
        };
      };
      const evaluate = async (): Promise<number> => {
        const { value, gradients } = valueAndGrad(objective, []);
        expect(gradients).toEqual([]);
        const loss = await value.loss.item();
        value.loss.dispose();
        return loss;
      };
      const subjects: [string, Tensor][] = [
        ...[...model.namedParameters()].map(([n, p]): [string, Tensor] => [n, p.value]),
        ...state.layers.flatMap(({ conv, ssm }, i): [string, Tensor][] => [
          [`state ${i} conv`, conv],
          [`state ${i} ssm`, ssm],
        ]),
      ];
      const { value, gradients } = valueAndGrad(
        objective,
        subjects.map(([, t]) => t),
      );
      value.loss.dispose();
      for (const [i, [what, t]] of subjects.entries()) {
        const got = await gradients[i]!.data();
        const values = Float64Array.from(await t.data());
        // A few elements of each, in random places.
        const places = Array.from(rng.integers(6, t.size));
        const [want, picked]: [number[], number[]] = [[], []];
        for (const k of places) {
          const h = 1e-4;
          const at = async (step: number): Promise<number> => {
            const moved = values.slice();
            moved[k]! += step * h;
            backend.write(t.buf, moved);
            return evaluate();
          };
          want.push((8 * ((await at(1)) - (await at(-1))) - ((await at(2)) - (await at(-2)))) / (12 * h));
          picked.push(got[k]!);
          backend.write(t.buf, values);
        }
        expect([
          what,
          Math.hypot(...want.map((w, j) => w - picked[j]!)) <= 1e-7 * Math.max(1e-2, Math.hypot(...want)),
        ]).toEqual([what, true]);
      }
      for (const t of [targets, ...gradients]) t.dispose();
      state.dispose();
      model.dispose();
      expect(backend.memory().liveBuffers).toBe(0);
    });
  },
);
