import { API_VERSION, type Backend, type FusedOps, isMambaError } from "@mamba-ts/backend";
import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { capture } from "./capture.js";
import * as t from "./index.js";

let backend: Backend;
beforeEach(() => {
  backend = createCpuBackend({ poison: true });
});
afterEach(() => {
  t.traceFrees(false);
  expect(backend.memory().liveBuffers).toBe(0);
});

const vector = (...xs: number[]): t.Tensor => t.tensor(backend, Float64Array.from(xs));
const values = async (x: t.Tensor): Promise<number[]> => Array.from(await x.data());

describe("scopes", () => {
  test("free what is not reachable from the result, intermediate results included", async () => {
    const kept = t.scope(() => {
      const a = t.add(t.mul(vector(1, 2), 3), 1);
      return { list: [a], map: new Map([["b", t.neg(a)]]), owner: { [t.tensorsSymbol]: () => [] as t.Tensor[] } };
    });
    expect(backend.memory().liveBuffers).toBe(2);
    expect(await values(kept.list[0]!)).toEqual([4, 7]);
    for (const x of t.tensorsIn(kept)) x.dispose();
  });

  test("what escapes an inner scope belongs to the outer one", () => {
    t.scope(() => {
      const inner = t.scope(() => vector(1));
      expect(backend.memory().liveBuffers).toBe(1);
      t.neg(inner);
    });
  });

  test("free everything when the function throws, and refuse promises", () => {
    const failing = () => {
      vector(1);
      throw new Error("no");
    };
    expect(() => t.scope(failing)).toThrow("no");
    expect(() => t.scope((async () => vector(1)) as never)).toThrow(/promise/);
  });

  test("a view keeps its memory alive", async () => {
    const part = t.scope(() => t.slice(t.add(vector(1, 2, 3), 0), 0, 1));
    expect(await values(part)).toEqual([2, 3]);
    part.dispose();
    part.dispose();
  });

  test("use after free says so, and where", () => {
    t.traceFrees(true);
    const x = vector(1);
    x.dispose();
    try {
      t.neg(x);
      expect.unreachable();
    } catch (error) {
      expect(isMambaError(error, "disposed")).toBe(true);
      expect(String((error as Error).cause)).toContain("freed here");
    }
  });
});

describe("gradients", () => {
  test("shared inputs add up, unused ones are zero, aux escapes detached", async () => {
    const [x, unused] = [vector(2, 3), vector(5)];
    const seen: number[] = [];
    const { value, gradients } = t.valueAndGrad(
      () => ({ loss: t.sum(t.mul(x, t.mul(x, x))), aux: t.mul(x, 2) }),
      [x, unused],
      {
        onGradient: (i) => seen.push(i),
      },
    );
    expect(await values(gradients[0]!)).toEqual([12, 27]);
    expect(await values(gradients[1]!)).toEqual([0]);
    expect(await values(value.aux)).toEqual([4, 6]);
    expect(seen.sort()).toEqual([0, 1]);
    for (const g of [x, unused, value.loss, value.aux, ...gradients]) g.dispose();
  });

  test("the tape keeps what it saved, whatever scope ends before", async () => {
    const x = vector(0.5);
    const { value, gradients } = t.valueAndGrad(
      () => ({ loss: t.sum(t.scope(() => t.exp(t.scope(() => t.sin(x))))) }),
      [x],
    );
    expect((await values(gradients[0]!))[0]).toBeCloseTo(Math.cos(0.5) * Math.exp(Math.sin(0.5)), 14);
    for (const g of [x, value.loss, ...gradients]) g.dispose();
  });

  test("checkpoint gives the same gradients with less memory, and replays random numbers", async () => {
    const x = t.randomNormal(backend, [64], new t.Rng(1), { dtype: "float64" });
    const w = t.randomNormal(backend, [64], new t.Rng(2), { dtype: "float64" });
    const measure = (wrap: <T>(fn: () => T) => T) => {
      const rng = new t.Rng(3);
      let [held, h] = [0, x];
      const run = () => {
        h = x;
        for (let i = 0; i < 6; i++) {
          const before = h;
          h = wrap(() =>
            t.scope(() =>
              t.tanh(
                t.add(
                  t.mul(before, w),
                  t.mul(t.sin(t.exp(before)), t.randomUniform(backend, [64], rng, { dtype: "float64" })),
                ),
              ),
            ),
          );
        }
        held = backend.memory().liveBuffers;
        return { loss: t.sum(h) };
      };
      const { value, gradients } = t.valueAndGrad(run, [x, w]);
      value.loss.dispose();
      return { gradients, held, counter: rng.counter };
    };
    const plain = measure((fn) => fn());
    const saved = measure(t.checkpoint);
    for (const i of [0, 1]) expect(await values(saved.gradients[i]!)).toEqual(await values(plain.gradients[i]!));
    expect(saved.held).toBeLessThan(plain.held);
    expect(saved.counter).toBe(plain.counter);
    for (const g of [x, w, ...plain.gradients, ...saved.gradients]) g.dispose();
  });

  test("what is forgotten is made again for the gradient, and nothing reads it before", async () => {
    const x = t.randomNormal(backend, [64], new t.Rng(1), { dtype: "float64" });
    const measure = (isForgetful: boolean) => {
      let [held, made] = [0, 0];
      const run = () => {
        let h = x;
        for (let i = 0; i < 5; i++) {
          const before = h;
          h = t.scope(() => {
            const make = () => {
              made++;
              const u = t.sin(before);
              return [u, t.exp(u)] as const;
            };
            const [u, v] = make();
            const [left, right] = t.split(v, [32, 32]) as [t.Tensor, t.Tensor];
            const y = t.concat([t.mul(left, t.slice(u, 0, 0, 32)), t.mul(right, t.tanh(t.slice(u, 0, 32, 64)))], 0);
            if (isForgetful) {
              t.forget([u, v], [before], make);
              if (i === 0) expect(() => t.add(u, 1)).toThrow(/forget/);
            }
            return y;
          });
        }
        held = backend.memory().liveBytes;
        return { loss: t.sum(h) };
      };
      const { value, gradients } = t.valueAndGrad(run, [x]);
      value.loss.dispose();
      return { g: gradients[0]!, held, made };
    };
    const [plain, forgetful] = [measure(false), measure(true)];
    expect(await values(forgetful.g)).toEqual(await values(plain.g));
    expect([plain.made, forgetful.made]).toEqual([5, 10]);
    expect(forgetful.held).toBeLessThan(plain.held);
    for (const g of [x, plain.g, forgetful.g]) g.dispose();
  });

  test("nothing is forgotten without a tape, nor left behind by a loss that throws", () => {
    const x = vector(1, 2);
    const y = t.exp(x);
    t.forget([y], [x], () => [t.exp(x)]);
    expect(y.buf.count).toBe(2);
    y.dispose();
    const before = backend.memory().liveBuffers;
    expect(() =>
      t.valueAndGrad(() => {
        const u = t.exp(x);
        const v = t.mul(u, u);
        t.forget([u], [], () => [t.exp(x)]);
        return { loss: v };
      }, [x]),
    ).toThrow(/not a scalar/);
    expect(backend.memory().liveBuffers).toBe(before);
    const wrong = () =>
      t.valueAndGrad(() => {
        const u = t.exp(x);
        const v = t.mul(u, u);
        t.forget([u], [], () => [t.sum(x)]);
        return { loss: t.sum(v) };
      }, [x]);
    expect(wrong).toThrow(/computed again/);
    expect(backend.memory().liveBuffers).toBe(before);
    x.dispose();
  });

  test("a backward pass that throws leaves nothing behind, the loss and what came with it included", () => {
    const x = vector(1, 2);
    const w = vector(3, 4);
    const run = () => {
      const y = t.mul(t.exp(x), w);
      return { loss: t.sum(y), aux: [t.neg(y)] };
    };
    let seen = 0;
    const onGradient = () => {
      vector(1);
      if (++seen === 2) throw new Error("enough");
    };
    const before = backend.memory().liveBuffers;
    expect(() => t.valueAndGrad(run, [x, w], { onGradient })).toThrow("enough");
    expect(backend.memory().liveBuffers).toBe(before);
    // Nor where there is no memory for its first tensor.
    const { fill } = backend;
    const withoutSeed = () => {
      const made = run();
      backend.fill = () => {
        throw new Error("no memory");
      };
      return made;
    };
    expect(() => t.valueAndGrad(withoutSeed, [x, w])).toThrow("no memory");
    backend.fill = fill;
    expect(backend.memory().liveBuffers).toBe(before);
    x.dispose();
    w.dispose();
  });

  test("the loss must be a scalar", () => {
    const x = vector(1, 2);
    expect(() => t.valueAndGrad(() => ({ loss: t.mul(x, 2) }), [x])).toThrow(/not a scalar/);
    x.dispose();
  });

  test("writing in place is refused while a tape is open", () => {
    const x = vector(1);
    const step = { lr: 1, beta1: 0.9, beta2: 0.9, eps: 1, step: 1, gradScale: 1, weightDecay: [0] };
    expect(() =>
      t.valueAndGrad(() => {
        t.adamW({ params: [x], grads: [x], m: [x], v: [x] }, step);
        return { loss: t.sum(x) };
      }, [x]),
    ).toThrow(/in place/);
    x.dispose();
  });
});

describe("dispatch", () => {
  const scanArgs = (rng: t.Rng) => {
    const n = (shape: number[]) => t.randomNormal(backend, shape, rng, { dtype: "float64" });
    return {
      x: n([2, 5, 3]),
      delta: n([2, 5, 3]),
      A: t.randomUniform(backend, [3, 2], rng, { low: -2, high: -1, dtype: "float64" }),
      B: n([2, 5, 2]),
      C: n([2, 5, 2]),
      D: n([3]),
      z: n([2, 5, 3]),
      deltaBias: n([3]),
      softplus: true,
    };
  };

  test.each([
    ["everything", () => true],
    ["no gate", (d: { hasZ: boolean }) => !d.hasZ],
    ["no gate, no skip", (d: { hasZ: boolean; hasD: boolean }) => !d.hasZ && !d.hasD],
    ["the bare scan", (d: { hasZ: boolean; hasD: boolean; softplus: boolean }) => !d.hasZ && !d.hasD && !d.softplus],
  ])("a scan kernel that takes %s is used for it, and the rest is done around it", async (_, supports) => {
    const kernel = backend.fused!.selectiveScan!;
    let calls = 0;
    const limited = {
      ...kernel,
      supports: (d: never) => supports(d),
      forward: (...call: Parameters<typeof kernel.forward>) => {
        calls++;
        return kernel.forward(...call);
      },
    };
    const own = backend;
    const narrow = new Proxy(own, {
      get: (target, key) =>
        key === "fused" ? ({ ...own.fused, selectiveScan: limited } as FusedOps) : Reflect.get(target, key, target),
    });
    backend = narrow;
    const narrowArgs = scanArgs(new t.Rng(4));
    const y = t.selectiveScan(narrowArgs);
    backend = own;
    const args = scanArgs(new t.Rng(4));
    const want = t.selectiveScan(args);
    expect(calls).toBe(1);
    const [got, expected] = [await values(y.y), await values(want.y)];
    for (const [i, v] of got.entries()) expect(v).toBeCloseTo(expected[i]!, 12);
    for (const x of [...t.tensorsIn([narrowArgs, args, y, want])]) x.dispose();
  });

  test("a kernel's gradient gets what it reads, and the rest is not kept for it", async () => {
    const kernel = backend.fused!.linear!;
    const own = backend;
    const measure = (backwardReads: typeof kernel.backwardReads) => {
      const seen: string[][] = [];
      const linear = {
        ...kernel,
        ...(backwardReads === undefined ? {} : { backwardReads }),
        backward: (...call: Parameters<NonNullable<typeof kernel.backward>>) => {
          seen.push([...Object.keys(call[0]), ...Object.keys(call[2])]);
          return kernel.backward!(...call);
        },
      };
      backend = new Proxy(own, {
        get: (target, key) =>
          key === "fused" ? ({ ...own.fused, linear } as FusedOps) : Reflect.get(target, key, target),
      });
      const x = t.randomNormal(backend, [6, 4], new t.Rng(1), { dtype: "float64" });
      const w = t.randomNormal(backend, [32, 4], new t.Rng(2), { dtype: "float64" });
      const before = own.memory().liveBytes;
      let held = 0;
      const run = () => {
        const loss = t.scope(() => t.sum(t.neg(t.linear(x, w))));
        held = own.memory().liveBytes - before;
        return { loss };
      };
      const { value, gradients } = t.valueAndGrad(run, [x, w]);
      for (const u of [x, w, value.loss]) u.dispose();
      backend = own;
      return { gradients, held, seen };
    };
    const all = measure(undefined);
    const some = measure(() => ["x", "weight"]);
    expect([all.seen, some.seen]).toEqual([[["x", "weight", "y"]], [["x", "weight"]]]);
    expect(all.held - some.held).toBe(6 * 32 * 8);
    for (const i of [0, 1]) expect(await values(some.gradients[i]!)).toEqual(await values(all.gradients[i]!));
    for (const g of [...all.gradients, ...some.gradients]) g.dispose();
  });

  test("reports what ran fused", () => {
    const events: string[] = [];
    t.watchDispatch(
      ({ op, how }) => events.push(`${op} ${how}`),
      () => t.scope(() => void t.rmsNorm({ x: t.ones(backend, [2, 3]), eps: 1 })),
    );
    expect(events).toEqual(["rmsNorm fused"]);
  });
});

describe("errors name what differs", () => {
  test("shapes, dtypes, backends, versions", () => {
    const [a, b, i] = [t.ones(backend, [2, 3]), t.ones(backend, [4, 3]), t.tensor(backend, Int32Array.of(1))];
    const other = createCpuBackend();
    const c = t.ones(other, [2, 3]);
    expect(() => t.add(a, b)).toThrow("add: shapes do not broadcast: [2, 3] and [4, 3]");
    expect(() => t.matmul(a, b)).toThrow(/inner dimensions differ: a \[2, 3\], b \[4, 3\]\n.*transB/);
    expect(() => t.exp(i)).toThrow(/int32/);
    expect(() => t.add(a, i)).toThrow(/float32 and int32/);
    expect(() => t.add(a, c)).toThrow(/two backends/);
    expect(() => t.sum(a, 2)).toThrow(/axis 2/);
    expect(() => t.reshape(a, [4])).toThrow(/6 elements/);
    expect(() => t.tensor(backend, [1.5], [1], "int32")).toThrow(/1.5/);
    expect(() => t.ones({ ...other, apiVersion: (API_VERSION + 1) as never }, [1])).toThrow(/interface version/);
    expect(() => capture(backend, () => 0)).toThrow(/does not record/);
    for (const x of [a, b, i, c]) x.dispose();
  });
});

test("Philox gives Random123's known answers, and a stream resumes by its counter", () => {
  const hex = (words: Uint32Array): string => Array.from(words, (w) => w.toString(16).padStart(8, "0")).join(" ");
  expect(hex(t.philox([0, 0, 0, 0], [0, 0]))).toBe("6627e8d5 e169c58d bc57ac4c 9b00dbd8");
  const ones = 0xffffffff;
  expect(hex(t.philox([ones, ones, ones, ones], [ones, ones]))).toBe("408f276d 41c83b0e a20bc7c6 6d5451fd");
  expect(hex(t.philox([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0]))).toBe(
    "d16cfe09 94fdcceb 5001e420 24126ea1",
  );
  const rng = new t.Rng(9);
  rng.normal(3);
  const resumed = new t.Rng(9, rng.counter);
  expect(resumed.uniform(5)).toEqual(rng.uniform(5));
});

test("a scan over 2^20 steps, and few rows computed by a mixture of experts", async () => {
  const h = t.scope(() => t.slice(t.linearScan(t.ones(backend, [2 ** 20]), t.ones(backend, [2 ** 20]), 0), 0, -1));
  expect(await h.item()).toBe(2 ** 20);
  h.dispose();
  const d = {
    tokens: 2048,
    topK: 2,
    experts: 8,
    width: 1,
    hidden: 1,
    dtype: "float32",
    activation: "relu",
    gated: false,
  } as const;
  const rows = t.moeBlockRows(d);
  expect(rows * (Math.ceil((d.tokens * d.topK) / rows) + d.experts)).toBeLessThan(1.3 * d.tokens * d.topK);
});
