import type { Backend } from "@mamba-ts/backend";
import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { relativeError } from "@mamba-ts/backend-testing";
import { droppedChoices, expertCounts, loadBalancingLoss, MoE, type MoEOptions, routerZLoss } from "@mamba-ts/nn";
import { add, fromHost, mul, Rng, scope, sum, type Tensor, valueAndGrad } from "@mamba-ts/tensor";
import { afterEach, describe, expect, test } from "vitest";
import { expectGradients, project, randomTensor } from "./support.js";

const base: MoEOptions = { width: 5, hidden: 7, experts: 4, topK: 2 };
const silu = (x: number): number => x / (1 + Math.exp(-x));

describe.each([
  ["fused", undefined],
  ["composed", {}],
] as const)("mixture of experts, %s", (_, fused) => {
  const backend = createCpuBackend({ poison: true, ...(fused === undefined ? {} : { fused }) });
  afterEach(() => expect(backend.memory().liveBuffers).toBe(0));
  const make = (options: Partial<MoEOptions> = {}, seed = 1) =>
    new MoE({ ...base, ...options }).initialise(backend, new Rng(seed), "float64");
  const read = async (t: Tensor): Promise<number[]> => {
    const data = Array.from(await t.data());
    t.dispose();
    return data;
  };

  /** In plain loops, batch-major, with a capacity and padding. */
  async function oracle(
    layer: MoE,
    options: MoEOptions,
    x: ArrayLike<number>,
    { capacity = Number.POSITIVE_INFINITY, real }: { capacity?: number; real?: readonly number[] } = {},
  ) {
    const { width, hidden, experts, topK, activation = "silu", gated = true, renormalise = false } = options;
    const act = activation === "silu" ? silu : (u: number) => Math.max(0, u);
    const { gateProj, upProj, downProj } = layer.experts;
    const [router, up, down] = await Promise.all([layer.router.weight, upProj, downProj].map((p) => p.value.data()));
    const gate = gated ? await gateProj!.value.data() : undefined;
    const tokens = x.length / width;
    const y = new Float64Array(x.length);
    const room = new Array<number>(experts).fill(capacity);
    const counts = new Array<number>(experts).fill(0);
    let dropped = 0;
    for (let t = 0; t < tokens; t++) {
      if (real?.[t] === 0) continue;
      const row = Array.from(x).slice(t * width, (t + 1) * width);
      const scores = Array.from(project(row, router!, width), Math.exp);
      const total = scores.reduce((a, b) => a + b, 0);
      const order = scores.map((s, e) => [s / total, e] as const).sort((a, b) => b[0] - a[0]);
      const chosen = order.slice(0, topK);
      const norm = renormalise ? chosen.reduce((s, [p]) => s + p, 0) : 1;
      for (const [p, e] of chosen) {
        counts[e]!++;
        if (room[e]! <= 0) {
          dropped++;
          continue;
        }
        room[e]!--;
        const part = (w: ArrayLike<number>, from: number, to: number) =>
          Array.from({ length: from * to }, (__, i) => w[e * from * to + i]!);
        const inner = project(row, part(up!, width, hidden), width);
        const gates = gate === undefined ? undefined : project(row, part(gate, width, hidden), width);
        const z = inner.map((u, i) => (gates === undefined ? act(u) : act(gates[i]!) * u));
        project(z, part(down!, hidden, width), hidden).forEach((o, i) => {
          y[t * width + i]! += (p / norm) * o;
        });
      }
    }
    return { y, counts, dropped };
  }

  test.each<[string, Partial<MoEOptions>]>([
    ["Jamba's", {}],
    ["Switch's", { topK: 1, gated: false, activation: "relu" }],
    ["renormalised", { renormalise: true, topK: 3 }],
    ["one expert", { experts: 1, topK: 1 }],
    ["every expert", { topK: 4 }],
  ])("%s is what plain loops give, with padding and capacity", async (__, options) => {
    const layer = make(options);
    const x = randomTensor(backend, 2, [3, 11, 5]);
    const real = Array.from(new Rng(3).integers(33, 4), (n) => (n === 0 ? 0 : 1));
    const mask = fromHost(backend, Int32Array.from(real), [3, 11], "int32");
    for (const call of [{}, { capacity: 3 }, { capacity: 5, real }, { capacity: 0 }]) {
      const want = await oracle(layer, { ...base, ...options }, await x.data(), call);
      const { y, counts, dropped } = scope(() => {
        const { y: out, routing } = layer.forward(x, { ...call, real: "real" in call ? mask : undefined });
        return { y: out, counts: expertCounts(routing), dropped: droppedChoices(routing) };
      });
      expect(relativeError(await read(y), want.y)).toBeLessThan(1e-12);
      expect(await read(counts)).toEqual(want.counts);
      expect(await read(dropped)).toEqual([want.dropped]);
      // Nothing is lost: every choice was kept or dropped.
      const tokens = "real" in call ? real.filter((r) => r === 1).length : 33;
      expect(want.counts.reduce((a, b) => a + b, 0)).toBe(tokens * (options.topK ?? base.topK));
    }
    for (const t of [x, mask]) t.dispose();
    layer.dispose();
  });

  test("identical experts = one dense layer", async () => {
    const layer = make({ renormalise: true });
    for (const p of [layer.experts.gateProj!, layer.experts.upProj, layer.experts.downProj]) {
      const first = Array.from(await p.value.data()).slice(0, p.size / 4);
      p.value = fromHost(
        backend,
        Float64Array.from({ length: p.size }, (___, i) => first[i % first.length]!),
        p.shape,
        "float64",
      );
    }
    const x = randomTensor(backend, 5, [9, 5]);
    const [gate, up, down] = await Promise.all(
      [layer.experts.gateProj!, layer.experts.upProj, layer.experts.downProj].map(async (p) =>
        Array.from(await p.value.data()).slice(0, 35),
      ),
    );
    const rows = await x.data();
    const [g, u] = [project(rows, gate!, 5), project(rows, up!, 5)];
    const want = project(
      u.map((v, i) => silu(g[i]!) * v),
      down!,
      7,
    );
    expect(relativeError(await read(scope(() => layer.forward(x).y)), want)).toBeLessThan(1e-12);
    x.dispose();
    layer.dispose();
  });

  test("the same in any order while nothing drops; a router of one mind; the batch-major tail drops", async () => {
    const layer = make({ topK: 1 });
    const x = randomTensor(backend, 6, [12, 5]);
    const data = Array.from(await x.data());
    const order = [5, 3, 11, 0, 7, 1, 9, 2, 10, 4, 8, 6];
    const permuted = fromHost(
      backend,
      Float64Array.from(order.flatMap((t) => data.slice(t * 5, t * 5 + 5))),
      [12, 5],
      "float64",
    );
    const y = await read(scope(() => layer.forward(x).y));
    const z = await read(scope(() => layer.forward(permuted).y));
    order.forEach((t, i) => {
      expect(relativeError(z.slice(i * 5, i * 5 + 5), y.slice(t * 5, t * 5 + 5))).toBeLessThan(1e-12);
    });
    // All to expert 0, by equal logits: the first among equals is taken.
    layer.router.weight.value = fromHost(backend, new Float64Array(20), [4, 5], "float64");
    const want = await oracle(layer, { ...base, topK: 1 }, data);
    expect(want.counts).toEqual([12, 0, 0, 0]);
    expect(relativeError(await read(scope(() => layer.forward(x).y)), want.y)).toBeLessThan(1e-12);
    const limited = await read(scope(() => layer.forward(x, { capacity: 5 }).y));
    expect(relativeError(limited.slice(0, 25), want.y.slice(0, 25))).toBeLessThan(1e-12);
    expect(limited.slice(25).every((v) => v === 0)).toBe(true);
    for (const t of [x, permuted]) t.dispose();
    layer.dispose();
  });

  test("gradients of the output and of both router losses", async () => {
    const layer = make();
    const x = randomTensor(backend, 8, [2, 6, 5]);
    const weight = randomTensor(backend, 9, [2, 6, 5]);
    const real = fromHost(backend, Int32Array.of(1, 1, 1, 0, 1, 1, 0, 1, 1, 1, 1, 1), [2, 6], "int32");
    const named: [string, Tensor][] = [
      ...[...layer.namedParameters()].map(([n, p]): [string, Tensor] => [n, p.value]),
      ["x", x],
    ];
    const run = () => {
      const { y, routing } = layer.forward(x, { real, capacity: 4 });
      const losses = add(mul(loadBalancingLoss([routing, routing]), 0.7), mul(routerZLoss(routing), 0.3));
      return { loss: add(sum(mul(y, weight)), losses) };
    };
    const { value, gradients } = valueAndGrad(
      run,
      named.map(([, t]) => t),
    );
    await expectGradients(named, gradients, async () => {
      const { loss } = scope(run);
      const v = await loss.item();
      loss.dispose();
      return v;
    });
    for (const t of [value.loss, x, weight, real, ...gradients]) t.dispose();
    layer.dispose();
  });

  test("router losses are their definitions", async () => {
    const layer = make();
    const x = randomTensor(backend, 10, [9, 5]);
    const { balance, z, logits, probabilities, choices } = scope(() => {
      const { routing } = layer.forward(x);
      const { logits: raw, probabilities: shares, choices: picks } = routing;
      return {
        balance: loadBalancingLoss([routing]),
        z: routerZLoss(routing),
        logits: raw,
        probabilities: shares,
        choices: picks,
      };
    });
    const p = await probabilities.data();
    const c = await choices.data();
    const l = await logits.data();
    let want = 0;
    for (let e = 0; e < 4; e++) {
      const f = Array.from(c).filter((i) => i === e).length / 9;
      let mass = 0;
      for (let t = 0; t < 9; t++) mass += p[t * 4 + e]! / 9;
      want += 4 * f * mass;
    }
    expect(await balance.item()).toBeCloseTo(want, 12);
    let squares = 0;
    for (let t = 0; t < 9; t++)
      squares +=
        Math.log(
          Array.from(l)
            .slice(t * 4, t * 4 + 4)
            .reduce((s, v) => s + Math.exp(v), 0),
        ) **
          2 /
        9;
    expect(await z.item()).toBeCloseTo(squares, 12);
    layer.dispose();
    x.dispose();
    for (const t of [balance, z, logits, probabilities, choices]) t.dispose();
  });
});

test("at most 1.3 rows are multiplied per choice at 2,048 tokens, as counted in the products", async () => {
  let rows = 0;
  const plain = createCpuBackend({ fused: {} });
  const backend: Backend = {
    ...plain,
    memory: () => plain.memory(),
    matmul(a, b, options) {
      rows += a.shape.slice(0, -1).reduce((n, m) => n * m, 1);
      return plain.matmul(a, b, options);
    },
  };
  const rng = new Rng(3);
  for (const [experts, topK] of [
    [8, 2],
    [16, 2],
    [42, 1],
  ] as const) {
    const layer = new MoE({ width: 4, hidden: 3, experts, topK }).initialise(backend, new Rng(1));
    rows = 0;
    const { y } = scope(() => ({ y: layer.forward(fromHost(backend, rng.normal(2048 * 4), [2048, 4], "float32")).y }));
    await y.data();
    // The router's product, and gate, up and down of every choice.
    const perChoice = (rows - 2048) / 3 / (2048 * topK);
    expect(perChoice).toBeGreaterThanOrEqual(1);
    expect(perChoice).toBeLessThanOrEqual(1.3);
    y.dispose();
    layer.dispose();
  }
});

test("counts that make no sense are refused", () => {
  for (const wrong of [{ topK: 5 }, { experts: 0 }, { topK: 0 }, { hidden: 1.5 }])
    expect(() => new MoE({ ...base, ...wrong })).toThrow(expect.objectContaining({ code: "config" }));
});
