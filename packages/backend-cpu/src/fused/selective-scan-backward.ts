/**
 * Gradient of the selective scan (reverse of arXiv:2312.00752, Alg. 2). With gh the gradient of the state,
 *   gh[t] = C[t] gy[t] + exp(delta[t+1] A) gh[t+1]
 *   gC = sum_c gy h, gB = sum_c gh delta x, gx = D gy + delta sum_n gh B,
 *   gdelta = sum_n gh (A a h[t-1] + B x), gA = sum_t gh delta a h[t-1], with a = exp(delta A).
 * The states of one stretch between two checkpoints are recomputed at a time.
 */
import type { Buf, FusedOps, SelectiveScanDescriptor } from "@mamba-ts/backend";
import { sigmoid, siluGradient } from "../functions.js";
import type { CpuMemory } from "../storage.js";
import { floats, type Output, output, read } from "../values.js";
import { advance, CHECKPOINT, scanInputs, stepSizeGradient, stepSizes } from "./selective-scan-shared.js";

type Op = NonNullable<FusedOps["selectiveScan"]>;
type Args = Parameters<Op["forward"]>[0];
type Backward = NonNullable<Op["backward"]>;
type Numbers = Float32Array | Float64Array;
type Name = "x" | "delta" | "A" | "B" | "C" | "D" | "z" | "deltaBias" | "initialState";

export function scanBackward(
  memory: CpuMemory,
  args: Args,
  d: SelectiveScanDescriptor,
  saved: readonly Buf[],
  gradOutputs: Parameters<Backward>[4],
  needs: ReadonlySet<string>,
): ReturnType<Backward> {
  const inputs = scanInputs(memory, args);
  const { x, B, C, z, A, D, marks } = inputs;
  const { batch, length, dInner, dState, groups } = d;
  const states = dInner * dState;
  const width = groups * dState;
  const perGroup = dInner / groups;
  const checkpoints = Math.ceil(length / CHECKPOINT);
  const borders = read(memory, saved[0]!);
  const gyAll = gradOutputs.y === undefined ? undefined : floats(memory, gradOutputs.y);
  const ghLast = gradOutputs.finalState === undefined ? undefined : floats(memory, gradOutputs.finalState);

  const rows = batch * length;
  const outputs = new Map<Name, Output>();
  const request = (name: Name, count: number, dtype = d.dtype): Numbers | undefined => {
    if (!needs.has(name)) return undefined;
    const out = output(memory, count, dtype);
    outputs.set(name, out);
    return out.values as Numbers;
  };
  const kept = d.dtype === "float64" ? "float64" : "float32";
  const gx = request("x", rows * dInner);
  const gDelta = request("delta", rows * dInner);
  const gB = request("B", rows * width);
  const gC = request("C", rows * width);
  const gz = request("z", rows * dInner);
  const gInitial = request("initialState", batch * states, kept);
  // Sums over tokens are kept in doubles.
  const gA = new Float64Array(states);
  const gD = new Float64Array(dInner);
  const gBias = new Float64Array(dInner);

  const h = new Float64Array((CHECKPOINT + 1) * states); // h[s + 1] is the state after token s of the stretch
  const gh = new Float64Array(states);
  const steps = new Float64Array(dInner);
  const rowB = new Float64Array(width);
  const rowC = new Float64Array(width);

  for (let b = 0; b < batch; b++) {
    if (ghLast === undefined) gh.fill(0);
    else gh.set(ghLast.subarray(b * states, (b + 1) * states));
    for (let k = checkpoints - 1; k >= 0; k--) {
      const start = k * CHECKPOINT;
      const end = Math.min(length, start + CHECKPOINT);
      const at = (b * checkpoints + k) * states;
      h.set(borders.subarray(at, at + states));
      for (let t = start; t < end; t++) {
        const state = h.subarray((t - start + 1) * states, (t - start + 2) * states);
        state.set(h.subarray((t - start) * states, (t - start + 1) * states));
        const row = b * length + t;
        const mark = marks === undefined ? 0 : marks[row]!;
        if (mark < 0) continue;
        if (mark > 0) state.fill(0);
        stepSizes(inputs, row, d, steps);
        advance(state, inputs, row, steps, d);
      }
      for (let t = end - 1; t >= start; t--) {
        const row = b * length + t;
        const mark = marks === undefined ? 0 : marks[row]!;
        if (mark < 0) {
          for (const g of [gx, gDelta, gz]) g?.fill(0, row * dInner, (row + 1) * dInner);
          for (const g of [gB, gC]) g?.fill(0, row * width, (row + 1) * width);
          continue;
        }
        stepSizes(inputs, row, d, steps);
        rowB.fill(0);
        rowC.fill(0);
        const now = (t - start + 1) * states;
        const before = now - states;
        for (let c = 0, i = 0; c < dInner; c++) {
          const group = Math.floor(c / perGroup) * dState;
          const xc = x.data[x.offset + row * x.stride + c]!;
          const step = steps[c]!;
          let gy = gyAll === undefined ? 0 : gyAll[row * dInner + c]!;
          if (z !== undefined) {
            const gate = z.data[z.offset + row * z.stride + c]!;
            const s = sigmoid(gate);
            if (gz !== undefined) {
              let y = D === undefined ? 0 : D[c]! * xc;
              for (let n = 0; n < dState; n++) y += C.data[C.offset + row * C.stride + group + n]! * h[now + i + n]!;
              gz[row * dInner + c] = gy * y * siluGradient(gate, s);
            }
            gy *= gate * s;
          }
          gD[c] = gD[c]! + gy * xc;
          let gxc = 0;
          let gStep = 0;
          for (let n = 0; n < dState; n++, i++) {
            const bn = B.data[B.offset + row * B.stride + group + n]!;
            const cn = C.data[C.offset + row * C.stride + group + n]!;
            const g = gh[i]! + cn * gy;
            const a = Math.exp(step * A[i]!);
            const past = mark > 0 ? 0 : a * h[before + i]!;
            rowC[group + n] = rowC[group + n]! + gy * h[now + i]!;
            rowB[group + n] = rowB[group + n]! + g * step * xc;
            gxc += g * bn;
            gStep += g * (A[i]! * past + bn * xc);
            gA[i] = gA[i]! + g * step * past;
            gh[i] = mark > 0 ? 0 : a * g;
          }
          if (gx !== undefined) gx[row * dInner + c] = step * gxc + (D === undefined ? 0 : D[c]! * gy);
          const raw = gStep * stepSizeGradient(inputs, row, c, d);
          if (gDelta !== undefined) gDelta[row * dInner + c] = raw;
          gBias[c] = gBias[c]! + raw;
        }
        gB?.set(rowB, row * width);
        gC?.set(rowC, row * width);
      }
    }
    gInitial?.set(gh, b * states);
  }
  for (const [name, sums] of [
    ["A", gA],
    ["D", gD],
    ["deltaBias", gBias],
  ] as const)
    request(name, sums.length, kept)?.set(sums);
  return Object.fromEntries([...outputs].map(([name, out]) => [name, out.finish()]));
}
