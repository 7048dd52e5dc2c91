/** Against state-spaces/s4: kernels, the convolution and the recurrence, in float32 and without a kernel of a backend. */
import { relativeError } from "@mamba-ts/backend-testing";
import { scope, slice, tensor } from "@mamba-ts/tensor";
import { describe, expect, it } from "vitest";
import { resolveLayerConfig, S4Convolution, type S4LayerConfig } from "../src/index.js";
import { backend, fixture } from "./support.js";

const cases: readonly [string, Partial<S4LayerConfig>, number][] = [
  ["s4d-diag-lin-zoh", { discretization: "zoh" }, 1e-5],
  ["s4d-diag-legs-bilinear", { discretization: "bilinear" }, 1e-5],
  ["dplr-legs", { mode: "dplr" }, 1e-4],
];

describe.each(cases)("%s", (name, extra, tolerance) => {
  const data = fixture(name);
  const load = (): S4Convolution => {
    const module = new S4Convolution(resolveLayerConfig({ dModel: 3, dState: 16, ...extra }));
    for (const [key, parameter] of module.namedParameters()) {
      const found = data.get(key.replace("kernel.", "param."));
      const values = found?.data ?? new Float32Array(parameter.size); // D, which the fixtures leave out
      parameter.value = tensor(backend, values, parameter.shape);
    }
    if (extra.mode === "dplr") module.kernel.kernelLength = 200;
    return module;
  };
  // [batch, heads, length] as [batch, length, heads]
  const channelsLast = (values: Float32Array): Float32Array =>
    values.map((_, i) => values[Math.floor(i / 600) * 600 + (i % 3) * 200 + Math.floor((i % 600) / 3)]!);
  const u = tensor(backend, channelsLast(data.get("u")!.data), [2, 200, 3]);

  it("kernel, convolution, recurrence, and halves with a state between", async () => {
    using module = load();
    const kernel = scope(() => module.kernel.kernel(200));
    expect(relativeError(await kernel.data(), data.get("K")!.data)).toBeLessThan(tolerance);
    for (const mode of ["convolution", "recurrence"] as const) {
      const { y } = scope(() => module.forward(u, { mode }));
      for (const key of ["y_conv", "y_step"])
        expect(relativeError(await y.data(), channelsLast(data.get(key)!.data))).toBeLessThan(tolerance);
      const first = scope(() => module.forward(slice(u, 1, 0, 77), { mode, returnState: true }));
      const second = scope(() => module.forward(slice(u, 1, 77), { mode, state: first.state }));
      const want = await y.data();
      const rest = want.filter((_, i) => i % 600 >= 77 * 3);
      expect(relativeError(await second.y.data(), rest)).toBeLessThan(tolerance);
    }
  });
});
