import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { type Mamba, type MambaConfig, MambaState } from "@mamba-ts/mamba";
import type { Recompute } from "@mamba-ts/nn";
import { add, fromHost, mul, Rng, scope, sum, type Tensor, tensorsSymbol, valueAndGrad } from "@mamba-ts/tensor";
import { afterEach, describe, expect, test } from "vitest";
import { perturbed, vocabSize } from "./support.js";

const base: MambaConfig = { dModel: 8, nLayer: 2, dState: 3, dConv: 4, vocabSize };

const rows = [
  [3, 1, 4, 1, 5],
  [9, 2, 6, 5, 10],
];
const segments = [
  [2, 2, 8, 8, 8],
  [-1, 7, 7, -1, 7],
];

/** A scalar in which every logit and every number of the final state counts, each with its own weight. */
function weighted(tensors: readonly Tensor[]): Tensor {
  const rng = new Rng(11);
  return tensors
    .map((t) => sum(mul(t, fromHost(t.backend, rng.normal(t.size), t.shape, "float64"))))
    .reduce((a, b) => add(a, b));
}

describe.each([
  ["fused", undefined],
  ["composed", {}],
] as const)("gradients of the whole model against central differences in float64, %s", (_, fused) => {
  const backend = createCpuBackend({ poison: true, ...(fused === undefined ? {} : { fused }) });
  afterEach(() => expect(backend.memory().liveBuffers).toBe(0));

  /** The state a run begins with: random, in segments 2 and 7. */
  const initialState = (model: Mamba): MambaState => {
    const state = model.createState(2);
    const rng = new Rng(12);
    const layers = state.layers.map(({ conv, ssm }) => ({
      conv: fromHost(backend, rng.normal(conv.size), conv.shape, "float64"),
      ssm: fromHost(backend, rng.normal(ssm.size), ssm.shape, "float64"),
    }));
    state.dispose();
    return new MambaState(layers, Int32Array.of(2, 7));
  };

  /**
   * Compares every gradient with a difference of fourth order. "elements": along each of a tensor's axes in turn; "directions": along
   * two random directions in which every element takes part.
   */
  const check = async (
    config: Partial<MambaConfig>,
    options: { withSegments?: boolean; recompute?: Recompute; along: "elements" | "directions" },
  ): Promise<void> => {
    const model = perturbed({ ...base, ...config }, backend, "float64");
    const state = initialState(model);
    const named: [string, Tensor][] = [
      ...[...model.namedParameters()].map(([name, p]): [string, Tensor] => [name, p.value]),
      ...state[tensorsSymbol]().map((t, i): [string, Tensor] => [`initial state ${i}`, t]),
    ];
    const loss = (): Tensor => {
      const result = model.forward(rows, {
        state,
        recompute: options.recompute ?? false,
        segments: options.withSegments === true ? segments : undefined,
      });
      return weighted([result.logits!, ...result.state[tensorsSymbol]()]);
    };
    const at = async (t: Tensor, values: Float64Array): Promise<number> => {
      const moved = scope(() => {
        const own = fromHost(backend, values, t.shape, "float64");
        t.assign(own);
        return loss();
      });
      const value = await moved.item();
      moved.dispose();
      return value;
    };
    const { value, gradients } = valueAndGrad(
      () => ({ loss: loss() }),
      named.map(([, t]) => t),
    );
    value.loss.dispose();
    const rng = new Rng(13);
    for (const [i, [name, t]] of named.entries()) {
      const gradient = Float64Array.from(await gradients[i]!.data());
      expect([name, gradients[i]!.shape]).toEqual([name, t.shape]);
      const here = Float64Array.from(await t.data());
      const directions =
        options.along === "elements"
          ? Array.from(here, (__, k) => Float64Array.from(here, (___, j) => (j === k ? 1 : 0)))
          : [rng.normal(t.size), rng.normal(t.size)];
      const [got, want]: [number[], number[]] = [[], []];
      for (const direction of directions) {
        const step = 2e-3 / Math.sqrt(direction.reduce((s, d) => s + d * d, 0));
        const along = (h: number): Promise<number> =>
          at(
            t,
            here.map((x, k) => x + h * step * direction[k]!),
          );
        const [near, far] = [(await along(1)) - (await along(-1)), (await along(2)) - (await along(-2))];
        want.push((8 * near - far) / (12 * step));
        got.push(gradient.reduce((s, g, k) => s + g * direction[k]!, 0));
      }
      await at(t, here);
      const norm = Math.hypot(...want);
      const error = Math.hypot(...want.map((w, k) => w - got[k]!)) / norm;
      expect([name, norm > 1e-6, error < 1e-7 ? "agrees" : error]).toEqual([name, true, "agrees"]);
    }
    for (const t of gradients) t.dispose();
    state.dispose();
    model.dispose();
  };

  test("every element of every parameter and of the initial state", () => check({ nLayer: 1 }, { along: "elements" }));
  test.each([
    ["tied, rms", {}],
    ["untied, layer norm", { norm: "layer", tieEmbeddings: false }],
    ["falcon's norms, biases", { innerNorm: "plain", bias: true }],
    ["no convolution bias, odd sizes", { convBias: false, dModel: 7, expand: 3, dtRank: 2, dState: 5, dConv: 2 }],
  ] as const)("%s", (__, config) => check(config, { along: "directions" }));
  test("with segments and padding", () => check({ norm: "layer" }, { along: "directions", withSegments: true }));
  test.each([true, "cheap"] as const)("with recomputation: %s", (recompute) =>
    check({ innerNorm: "plain" }, { along: "directions", recompute, withSegments: true }),
  );
});
