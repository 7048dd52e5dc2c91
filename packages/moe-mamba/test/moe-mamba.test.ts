import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { relativeError } from "@mamba-ts/backend-testing";
import { encodeSafetensors, memoryReader, openSafetensors } from "@mamba-ts/checkpoint";
import type { MambaState } from "@mamba-ts/mamba";
import { MoEMamba, type MoEMambaConfig, type MoEMambaForwardOptions, moeMambaSizes } from "@mamba-ts/moe-mamba";
import { loadMoEMambaFrom, moeMambaConfigText, moeMambaTensors } from "@mamba-ts/moe-mamba/load";
import { add, fromHost, mul, Rng, scope, sum, type Tensor, valueAndGrad } from "@mamba-ts/tensor";
import { constantSchedule, Trainer } from "@mamba-ts/train";
import { describe, expect, test } from "vitest";

const small: MoEMambaConfig = { dModel: 8, nLayer: 2, vocabSize: 11, dState: 3, nExperts: 4, dExpert: 6 };

function perturbed(config: MoEMambaConfig, dtype: "float32" | "float64" = "float32") {
  const backend = createCpuBackend({ poison: true });
  const model = MoEMamba.create(config, { backend, seed: 3, dtype });
  const rng = new Rng(4);
  const centre = (name: string): number =>
    name.endsWith("dt_proj.bias") ? -1 : /norm.*weight$|A_log$|mixer\.D$/.test(name) ? 0.5 : 0;
  for (const [name, p] of model.namedParameters())
    p.value = fromHost(
      backend,
      rng.normal(p.size).map((z) => centre(name) + (name.includes("embed") ? 1 : 0.4) * z),
      p.shape,
      dtype,
    );
  return { backend, model };
}

/** Logits [rows][position * vocabulary]; the state is the caller's. */
async function run(
  model: MoEMamba,
  rows: number[][],
  options: MoEMambaForwardOptions = {},
): Promise<{ logits: number[][]; state: MambaState }> {
  const { logits, state } = scope(() => {
    const result = model.forward(rows, options);
    return { logits: result.logits!, state: result.state };
  });
  const data = Array.from(await logits.data());
  logits.dispose();
  const each = data.length / rows.length;
  return { logits: rows.map((_, b) => data.slice(b * each, (b + 1) * each)), state };
}

test("step by step, in chunks, packed and padded = whole and separate", async () => {
  const { backend, model } = perturbed(small);
  const resting = backend.memory().liveBuffers;
  const [a, b] = [
    [1, 2, 3, 4, 5],
    [9, 8, 7],
  ];
  const whole = await run(model, [a]);
  for (const sizes of [
    [1, 1, 1, 1, 1],
    [2, 3],
  ]) {
    const state = model.createState(1);
    const got: number[] = [];
    let at = 0;
    for (const n of sizes) {
      got.push(...(await run(model, [a.slice(at, at + n)], { state, into: state })).logits[0]!);
      at += n;
    }
    expect(relativeError(got, whole.logits[0]!)).toBeLessThan(1e-5);
    state.dispose();
  }
  const second = await run(model, [b]);
  const packed = await run(model, [[...a, ...b]], { segments: [[0, 0, 0, 0, 0, 1, 1, 1]] });
  expect(relativeError(packed.logits[0]!, [...whole.logits[0]!, ...second.logits[0]!])).toBeLessThan(1e-5);
  const padded = await run(model, [[6, 6, ...b]], { segments: [[-1, -1, 0, 0, 0]] });
  expect(relativeError(padded.logits[0]!.slice(22), second.logits[0]!)).toBeLessThan(1e-5);
  for (const { state } of [whole, second, packed, padded]) state.dispose();
  expect(backend.memory().liveBuffers).toBe(resting);
});

test("the same in any batch order while nothing drops; in training the batch-major tail drops and is counted", async () => {
  const { model } = perturbed({ ...small, nLayer: 1 });
  const rows = [
    [1, 2, 3, 4],
    [5, 6, 7, 8],
    [9, 10, 0, 1],
  ];
  const forward = await run(model, rows);
  const backward = await run(model, [...rows].reverse());
  rows.forEach((_, b) => {
    expect(relativeError(backward.logits[2 - b]!, forward.logits[b]!)).toBeLessThan(1e-6);
  });
  // A router of one mind: everything goes to expert 0, which takes 12 / 4 = 3 of 12 tokens.
  model.backbone.layers[0]!.moe.router.weight.value = fromHost(model.backend, new Float32Array(32), [4, 8], "float32");
  const stats = async (train: boolean) => {
    const { loads, logits } = scope(() => {
      const result = model.forward(rows, { train, loads: true });
      return { loads: result.loads!, logits: result.logits! };
    });
    return {
      counts: Array.from(await loads[0]!.counts.data()),
      dropped: await loads[0]!.dropped.item(),
      logits: await logits.data(),
    };
  };
  const [free, limited] = [await stats(false), await stats(true)];
  expect(free).toMatchObject({ counts: [12, 0, 0, 0], dropped: 0 });
  expect(limited).toMatchObject({ counts: [12, 0, 0, 0], dropped: 9 });
  expect(relativeError(limited.logits.slice(0, 33), free.logits.slice(0, 33))).toBeLessThan(1e-6);
  for (let t = 3; t < 12; t++)
    expect(
      relativeError(limited.logits.slice(t * 11, t * 11 + 11), free.logits.slice(t * 11, t * 11 + 11)),
    ).toBeGreaterThan(1e-4);
});

describe("gradients in float64, in training mode with both losses", () => {
  test.each([false, true])("recompute %s", async (recompute) => {
    const { backend, model } = perturbed({ ...small, nLayer: 1, zCoef: 0.1, balanceCoef: 0.5, topK: 2 }, "float64");
    const named: [string, Tensor][] = [...model.namedParameters()].map(([n, p]) => [n, p.value]);
    const loss = () => {
      const { logits, penalty } = model.forward([[1, 2, 3, 4, 5, 6]], {
        train: true,
        recompute,
        segments: [[-1, 0, 0, 0, 1, 1]],
      });
      return { loss: add(sum(mul(logits!, mul(logits!, 0.01))), penalty!) };
    };
    const { value, gradients } = valueAndGrad(
      loss,
      named.map(([, t]) => t),
    );
    const rng = new Rng(9);
    for (const [i, [name, t]] of named.entries()) {
      const here = Float64Array.from(await t.data());
      const direction = rng.normal(t.size);
      const step = 1e-3 / Math.hypot(...direction);
      const at = async (h: number) => {
        backend.write(
          t.buf,
          here.map((x, j) => x + h * step * direction[j]!),
        );
        const { loss: l } = scope(loss);
        const x = await l.item();
        l.dispose();
        return x;
      };
      const want = (8 * ((await at(1)) - (await at(-1))) - ((await at(2)) - (await at(-2)))) / (12 * step);
      backend.write(t.buf, here);
      const g = await gradients[i]!.data();
      const error = Math.abs(direction.reduce((s, d, j) => s + d * g[j]!, 0) - want) / Math.max(1e-3, Math.abs(want));
      expect([name, error < 1e-6 ? "agrees" : error]).toEqual([name, "agrees"]);
    }
    for (const t of [value.loss, ...gradients]) t.dispose();
    model.dispose();
    expect(backend.memory().liveBuffers).toBe(0);
  });
});

test("one batch is learnt by heart", async () => {
  const backend = createCpuBackend();
  const model = MoEMamba.create(
    { ...small, dModel: 16, dExpert: 16, vocabSize: 32, capacityFactor: 2 },
    { backend, seed: 5 },
  );
  const tokens = [
    Int32Array.of(3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3),
    Int32Array.of(2, 7, 1, 8, 2, 8, 1, 8, 2, 8, 4, 5, 9, 0, 4, 5),
  ];
  const trainer = new Trainer(model, {
    data: { batch: async () => ({ tokens }), bytesPerToken: 1, isContiguous: false },
    schedule: constantSchedule(1e-2),
    optimizer: { weightDecay: 0 },
  });
  let loss = Number.NaN;
  for (let i = 0; i < 150; i++) ({ loss } = await trainer.update());
  // The load-balancing loss stays: 0.01 where the load is even.
  expect(loss).toBeLessThan(0.06);
});

test("written and read back", async () => {
  const { backend, model } = perturbed({ ...small, tieEmbeddings: false, norm: "layer" });
  const source = await openSafetensors(memoryReader(await encodeSafetensors(moeMambaTensors(model), {}), "test"));
  const again = await loadMoEMambaFrom(JSON.parse(moeMambaConfigText(model.config)), source, { backend });
  expect(again.config).toEqual(model.config);
  expect((await run(again, [[1, 2, 3]])).logits).toEqual((await run(model, [[1, 2, 3]])).logits);
});

test.each([
  // Parameters beside embedding and head: 542M of which 26M are active, 2,439M of which 117M are.
  ["25M", 542, 26],
  ["100M", 2439, 117],
] as const)("parameters of %s", (size, total, active) => {
  const vocabSize = 50257;
  const model = new MoEMamba({ ...moeMambaSizes[size], vocabSize });
  const rest = vocabSize * model.config.mamba.dModel;
  expect(Math.round((model.parameterCount - rest) / 1e6)).toBe(total);
  expect(Math.round((model.activeParameterCount - rest) / 1e6)).toBe(active);
});

test.each<[string, Partial<MoEMambaConfig>]>([
  ["topK", { topK: 5 }],
  ["nExperts", { nExperts: 0 }],
  ["capacityFactor", { capacityFactor: 0 }],
  ["balanceCoef", { balanceCoef: -1 }],
  ["dState", { dState: 0 }],
  ["nothing", { nothing: 1 } as never],
])("a wrong %s is refused", (name, wrong) => {
  expect(() => new MoEMamba({ ...small, ...wrong })).toThrow(
    expect.objectContaining({ code: "config", message: expect.stringContaining(name) }),
  );
});

test("one expert is a dense layer", async () => {
  const { model } = perturbed({ ...small, nExperts: 1 });
  const { logits } = await run(model, [[1, 2, 3]]);
  expect(logits[0]!.every(Number.isFinite)).toBe(true);
});
