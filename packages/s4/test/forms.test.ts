/** The forms of a layer are one, and agree with @mamba-ts/ssm's float64 definition. */

import type { Backend } from "@mamba-ts/backend";
import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { relativeError } from "@mamba-ts/backend-testing";
import { convolutionKernel, discretizeSystem, dplrKernel, fromInterleaved, sampledRecurrence } from "@mamba-ts/ssm";
import { concat, mul, Rng, scope, slice, sum, tensor, valueAndGrad } from "@mamba-ts/tensor";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { resolveLayerConfig, S4Convolution, S4Kernel, type S4LayerConfig } from "../src/index.js";
import { backend, errorOf, makeKernel, normal } from "./support.js";

const kinds: readonly [string, Partial<S4LayerConfig>][] = [
  ["S4D-Lin, zero-order hold", { init: "lin" }],
  ["S4D-LegS, bilinear, two channels", { init: "legs", discretization: "bilinear", channels: 2 }],
  ["S4D-Inv, softplus, shared systems", { init: "inv", dtTransform: "softplus", realTransform: "softplus", nSsm: 2 }],
  ["S4", { mode: "dplr", length: 40 }],
  ["S4, two channels, shared systems", { mode: "dplr", length: 40, channels: 2, nSsm: 1 }],
];

function makeLayer(extra: Partial<S4LayerConfig>): S4Convolution {
  const config = resolveLayerConfig({ dModel: 4, dState: 6, dtMin: 0.02, dtMax: 0.3, ...extra });
  const module = new S4Convolution(config).initialise(backend, new Rng(3), "float64");
  module.kernel.ensureLength(config.length);
  return module;
}

describe.each(kinds)("%s", (_, extra) => {
  it("convolution = recurrence = chunks of any size, with a state carried in", async () => {
    using module = makeLayer(extra);
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 1, max: 40 }),
        fc.boolean(),
        async (length, chunk, carried) => {
          const x = normal([2, length, 4], length);
          const state = carried ? normal([2, 4, 6], 9) : undefined;
          const want = scope(() => module.forward(x, { mode: "recurrence", state, returnState: true }));
          const whole = scope(() => module.forward(x, { mode: "convolution", state, returnState: true }));
          const parts = scope(() => {
            let s = state;
            const ys = [];
            for (let t = 0; t < length; t += chunk) {
              const part = module.forward(slice(x, 1, t, t + chunk), { state: s, returnState: true });
              ys.push(part.y);
              s = part.state;
            }
            return { y: concat(ys, 1), state: s };
          });
          for (const got of [whole, parts]) {
            expect(await errorOf(got.y, want.y)).toBeLessThan(1e-9);
            expect(await errorOf(got.state!, want.state!)).toBeLessThan(1e-9);
          }
        },
      ),
      { numRuns: 25 },
    );
  });

  it("has the kernel of the float64 definition, head by head, at any length", async () => {
    using module = makeLayer(extra);
    const { config } = makeKernel({ dModel: 4, dState: 6, ...extra });
    const { A, B, P, dt } = scope(() => module.kernel.modes());
    const [ar, ai, br, bi, pr, pi, delta] = await Promise.all(
      [A.re, A.im, B.re, B.im, P.re, P.im, dt].map(async (t) => Float64Array.from(await t.data())),
    );
    // The true C, not the truncated one: the recurrence's row.
    const step = scope(() => module.kernel.step());
    const rows = await step.rows.data();
    for (const length of [1, 2, 17, 40]) {
      const kernel = await scope(() => module.kernel.kernel(length)).data();
      for (let h = 0; h < 4; h++)
        for (let c = 0; c < config.channels; c++) {
          const modes = (re: Float64Array, im: Float64Array) => ({
            re: re.slice(3 * h, 3 * h + 3),
            im: im.slice(3 * h, 3 * h + 3),
          });
          const at = (c * 4 + h) * 6;
          const C = {
            re: Float64Array.from(rows.slice(at, at + 3), (v) => v / 2),
            im: Float64Array.from(rows.slice(at + 3, at + 6), (v) => -v / 2),
          };
          const system = { A: modes(ar!, ai!), B: modes(br!, bi!), C };
          const want =
            config.mode === "dplr"
              ? dplrKernel({ ...system, form: "dplr", P: [modes(pr!, pi!)] }, delta![h]!, length)
              : convolutionKernel(
                  discretizeSystem(config.discretization, { ...system, form: "diagonal" }, delta![h]!),
                  length,
                );
          const start = (c * 4 + h) * length;
          expect(relativeError(kernel.slice(start, start + length), want)).toBeLessThan(1e-8);
        }
    }
  });
});

describe("steps of their own", () => {
  it("a scan with irregular steps is the float64 recurrence, state included", async () => {
    const { kernel } = makeKernel({ dModel: 3, dState: 8, init: "lin", channels: 2, dtMin: 0.05, dtMax: 0.3 });
    const [u, state] = [normal([2, 3, 20], 5), normal([2, 3, 8], 6)];
    const deltas = tensor(
      backend,
      new Rng(8).uniform(40).map((v) => 0.1 + 3 * v),
      [2, 20],
      "float64",
    );
    const got = scope(() => kernel.scan(u, deltas, state));
    const modes = scope(() => kernel.modes());
    const read = async (t: { data(): Promise<ArrayLike<number>> }) => Float64Array.from(await t.data());
    const [ar, ai, C, dt, us, ss, ds] = await Promise.all(
      [modes.A.re, modes.A.im, kernel.C.value, modes.dt, u, state, deltas].map(read),
    );
    const [y, last] = await Promise.all([got.y, got.state].map(read));
    for (let b = 0; b < 2; b++)
      for (let h = 0; h < 3; h++) {
        const cut = (x: Float64Array | undefined, i: number, n: number) => x!.slice(i * n, (i + 1) * n);
        for (let c = 0; c < 2; c++) {
          const system = {
            form: "diagonal",
            A: { re: cut(ar, h, 4), im: cut(ai, h, 4) },
            B: { re: new Float64Array(4).fill(1), im: new Float64Array(4) },
            C: fromInterleaved(cut(C, c * 3 + h, 8)),
          } as const;
          const want = sampledRecurrence(
            system,
            "zoh",
            cut(us, b * 3 + h, 20),
            cut(ds, b, 20).map((v) => v * dt![h]!),
            { initialState: cut(ss, b * 3 + h, 8) },
          );
          expect(relativeError(cut(y, (b * 2 + c) * 3 + h, 20), want.y)).toBeLessThan(1e-10);
          expect(relativeError(cut(last, b * 3 + h, 8), want.finalState)).toBeLessThan(1e-10);
        }
      }
  });

  it("a scan with equal steps is the convolution", async () => {
    using module = makeLayer({ init: "lin" });
    const x = normal([2, 30, 4], 2);
    const [a, b] = (["scan", "convolution"] as const).map((mode) =>
      scope(() => module.forward(x, { mode, returnState: true })),
    );
    expect(await errorOf(a!.y, b!.y)).toBeLessThan(1e-10);
    expect(await errorOf(a!.state!, b!.state!)).toBeLessThan(1e-10);
  });
});

it("bidirectional: the future through the second kernel, the present once", async () => {
  using module = makeLayer({ init: "lin", bidirectional: true });
  const length = 9;
  const x = normal([1, length, 4], 4);
  const [y, k, us, D] = await Promise.all([
    scope(() => module.forward(x, {}).y).data(),
    scope(() => module.kernel.kernel(length)).data(),
    x.data(),
    module.D.value.data(),
  ]);
  for (let h = 0; h < 4; h++)
    for (let t = 0; t < length; t++) {
      let want = D[h]! * us[t * 4 + h]!;
      for (let s = 0; s < length; s++)
        want += us[s * 4 + h]! * (s <= t ? k[h * length + t - s]! : k[(4 + h) * length + s - t - 1]!);
      expect(y[t * 4 + h]).toBeCloseTo(want, 10);
    }
  expect(() => module.forward(x, { returnState: true })).toThrow(/bidirectional/);
});

it("doubles the length of S4's kernel without changing the system", async () => {
  using module = makeLayer({ mode: "dplr", length: 10 });
  const x = normal([1, 35, 4], 4);
  const want = scope(() => module.forward(x, { mode: "recurrence" }).y);
  const got = scope(() => module.forward(x, { mode: "convolution" }).y);
  expect(module.kernel.kernelLength).toBe(40);
  expect(await errorOf(got, want)).toBeLessThan(1e-8);
  const loss = () => ({ loss: sum(module.forward(normal([1, 41, 4], 4), { mode: "convolution" }).y) });
  expect(() => valueAndGrad(loss, [module.D.value])).toThrow(/longer than the kernel/);
});

describe("bounded memory", () => {
  /** The same backend with buffers of at most a few kilobytes for compositions, and a note of the largest allocation. */
  function small(): { readonly backend: Backend; largest(): number; peak(): number } {
    const own = createCpuBackend();
    let [largest, peak] = [0, 0];
    const limited: Backend = new Proxy(own, {
      get(target, key) {
        if (key === "limits") return { ...own.limits, maxBufferBytes: 16_000 };
        const member = Reflect.get(target, key) as unknown;
        if (typeof member !== "function") return member;
        return (...args: unknown[]) => {
          const out = (member as (...a: unknown[]) => unknown).apply(target, args);
          const count = (out as { count?: number } | undefined)?.count;
          if (typeof count === "number") largest = Math.max(largest, count);
          peak = Math.max(peak, own.memory().liveBytes);
          return out;
        };
      },
    });
    return { backend: limited, largest: () => largest, peak: () => peak };
  }

  it.each(kinds.filter(([name]) => !name.includes("shared")))(
    "%s: kernels and gradients in groups and tiles are those made at once, and never [heads, modes, length]",
    async (_, extra) => {
      const { backend: limited, largest } = small();
      const config = resolveLayerConfig({ dModel: 8, dState: 32, dtMin: 0.01, dtMax: 0.2, ...extra, length: 1200 });
      const run = async (on: Backend): Promise<Float64Array[]> => {
        using kernel = new S4Kernel(config).initialise(on, new Rng(5), "float64");
        kernel.kernelLength = config.mode === "dplr" ? 1200 : 0;
        const wrt = kernel.parameters().map((p) => p.value);
        const weight = tensor(on, new Rng(6).normal(config.channels * 8 * 1200), [config.channels, 8, 1200], "float64");
        const { value, gradients } = valueAndGrad(() => {
          const k = kernel.kernel(1200);
          return { loss: sum(mul(k, weight)), k };
        }, wrt);
        return Promise.all([value.k, ...gradients].map(async (t) => Float64Array.from(await t.data())));
      };
      const [got, want] = [await run(limited), await run(backend)];
      for (const [i, values] of want.entries()) expect(relativeError(got[i]!, values)).toBeLessThan(1e-9);
      expect(largest()).toBeLessThan(8 * 16 * 1200);
      // Without a tape, too, a tile is gone when the next one begins.
      const fresh = small();
      using kernel = new S4Kernel(config).initialise(fresh.backend, new Rng(5), "float64");
      kernel.kernelLength = config.mode === "dplr" ? 1200 : 0;
      scope(() => void kernel.kernel(1200));
      // All that is live at once is less than two arrays [heads, modes, length] would be.
      expect(fresh.peak()).toBeLessThan(2 * 8 * (8 * 16 * 1200));
    },
  );
});

it("sequences of a batch do not see each other", async () => {
  using module = makeLayer({ init: "lin" });
  const x = normal([3, 12, 4], 7);
  const y = scope(() => module.forward(x, {}).y);
  const one = scope(() => module.forward(slice(x, 0, 1, 2), {}).y);
  expect(
    await errorOf(
      one,
      scope(() => slice(y, 0, 1, 2)),
    ),
  ).toBeLessThan(1e-12);
});
