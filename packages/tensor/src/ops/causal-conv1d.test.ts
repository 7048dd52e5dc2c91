import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { expect, test } from "vitest";
import { causalConv1d, permute, Rng, scope, slice, type Tensor, tensor, vjp } from "../index.js";

/** y[b, c, t] = sum_k weight[c, k] x[b, c, t - (width - 1) + k] with channels first, from carried inputs [batch, channels, width] of which the last are read. */
function channelsFirst(x: number[][][], weight: number[][], carried: number[][][]): number[][][] {
  return x.map((rows, b) =>
    rows.map((row, c) => {
      const all = [...carried[b]![c]!.slice(1), ...row];
      return row.map((_, t) => weight[c]!.reduce((sum, w, k) => sum + w * all[t + k]!, 0));
    }),
  );
}

test("data with channels first is permuted before and after, the reference's state too", async () => {
  const backend = createCpuBackend({ poison: true });
  const [batch, channels, length, width] = [2, 3, 7, 4];
  const rng = new Rng(5);
  const draw = (...shape: number[]): Tensor =>
    tensor(backend, Float64Array.from(rng.normal(shape.reduce((a, b) => a * b, 1))), shape, "float64");
  const [x, weight] = [draw(batch, channels, length), draw(channels, width)];
  const [state, gy] = [draw(batch, channels, width), draw(batch, channels, length)];
  const nested = async (t: Tensor): Promise<number[][][]> => {
    const data = Array.from(await t.data());
    const [, rows, columns] = t.shape as [number, number, number];
    const row = (i: number): number[] => data.slice(i * columns, (i + 1) * columns);
    return Array.from({ length: t.shape[0]! }, (_, b) => Array.from({ length: rows }, (_, c) => row(b * rows + c)));
  };
  const run = () => {
    const initialState = permute(slice(state, 2, 1), [0, 2, 1]); // [batch, width - 1, channels]
    const out = causalConv1d({ x: permute(x, [0, 2, 1]), weight, initialState });
    return { y: permute(out.y, [0, 2, 1]), finalState: permute(out.finalState, [0, 2, 1]) }; // [batch, channels, …]
  };
  const { y, finalState } = scope(run);
  const [gx] = vjp(() => [run().y], [x], [gy]);
  const taps = Array.from(await weight.data());
  const rows = Array.from({ length: channels }, (_, c) => taps.slice(c * width, (c + 1) * width));
  const [xs, got, grad] = [await nested(x), await nested(y), await nested(gx!)];
  const want = channelsFirst(xs, rows, await nested(state));
  for (const [b, byChannel] of want.entries())
    for (const [c, byTime] of byChannel.entries())
      for (const [t, value] of byTime.entries()) expect(got[b]![c]![t]).toBeCloseTo(value, 12);
  // What a continuation needs: the last inputs.
  const last = xs.map((byChannel) => byChannel.map((row) => row.slice(length - width + 1)));
  expect(await nested(finalState)).toEqual(last);
  // The gradient of x[t] is what the windows that hold it give back.
  const g = await nested(gy);
  for (let b = 0; b < batch; b++)
    for (let c = 0; c < channels; c++)
      for (let t = 0; t < length; t++) {
        let sum = 0;
        for (let k = 0; k < width; k++) sum += rows[c]![k]! * (g[b]![c]![t + (width - 1) - k] ?? 0);
        expect(grad[b]![c]![t]).toBeCloseTo(sum, 12);
      }
  for (const made of [x, weight, state, gy, y, finalState, gx!]) made.dispose();
  expect(backend.memory().liveBuffers).toBe(0);
});
