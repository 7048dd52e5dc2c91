import type { Buf, FusedOps, SelectiveScanDescriptor } from "@mamba-ts/backend";
import type { CpuMemory } from "../storage.js";
import { type Floats, floatOutput, type Output, optionalFloats, outputOf, read } from "../values.js";
import { Gradients, Stretch } from "./selective-scan-gradients.js";
import { CHECKPOINT, markOf, scanInputs } from "./selective-scan-shared.js";

type Op = NonNullable<FusedOps["selectiveScan"]>;
type Args = Parameters<Op["forward"]>[0];
type Backward = NonNullable<Op["backward"]>;
type Grads = { -readonly [K in keyof ReturnType<Backward>]: Buf };

/** See `FusedOp.backward`; `saved` holds the states at the checkpoints. */
export function scanBackward(
  memory: CpuMemory,
  args: Args,
  d: SelectiveScanDescriptor,
  saved: readonly Buf[],
  gradOutputs: Parameters<Backward>[4],
  needs: ReadonlySet<string>,
): ReturnType<Backward> {
  const inputs = scanInputs(memory, args);
  const { batch, length, dInner, dState, groups } = d;
  const states = dInner * dState;
  const checkpoints = Math.ceil(length / CHECKPOINT);
  const borders = read(memory, saved[0]!) as Floats;
  const gyAll = optionalFloats(memory, gradOutputs.y);
  const ghLast = optionalFloats(memory, gradOutputs.finalState);
  const kept = d.dtype === "float64" ? "float64" : "float32";
  const perRow = { x: dInner, delta: dInner, z: dInner, B: groups * dState, C: groups * dState };
  const rowOutputs = (Object.keys(perRow) as (keyof typeof perRow)[]).flatMap((name) =>
    needs.has(name) ? [{ name, out: floatOutput(memory, batch * length * perRow[name], d.dtype) }] : [],
  );
  const gInitial: Output<Floats> | undefined = needs.has("initialState")
    ? floatOutput(memory, batch * states, kept)
    : undefined;
  const sums = new Gradients(d);
  const stretch = new Stretch(d);
  const gy = new Float64Array(dInner);

  for (let b = 0; b < batch; b++) {
    if (ghLast === undefined) sums.h.fill(0);
    else sums.h.set(ghLast.subarray(b * states, (b + 1) * states));
    for (let k = checkpoints - 1; k >= 0; k--) {
      const first = b * length + k * CHECKPOINT;
      const end = b * length + Math.min(length, (k + 1) * CHECKPOINT);
      const border = (b * checkpoints + k) * states;
      stretch.run(inputs, first, end, borders.subarray(border, border + states));
      for (let row = end - 1; row >= first; row--) {
        const mark = markOf(inputs, row);
        if (mark < 0) {
          for (const { name, out } of rowOutputs) out.values.fill(0, row * perRow[name], (row + 1) * perRow[name]);
          continue;
        }
        for (const rows of [inputs.x, inputs.delta, inputs.B, inputs.C, inputs.z]) rows?.load(row);
        if (gyAll === undefined) gy.fill(0);
        else for (let c = 0; c < dInner; c++) gy[c] = gyAll[row * dInner + c]!;
        sums.add(inputs, stretch, row - first, gy, mark > 0);
        for (const { name, out } of rowOutputs) out.values.set(sums[name], row * perRow[name]);
      }
    }
    gInitial?.values.set(sums.h, b * states);
  }

  const grads: Partial<Grads> = {};
  for (const { name, out } of rowOutputs) grads[name] = out.finish();
  for (const name of ["A", "D", "deltaBias"] as const)
    if (needs.has(name)) grads[name] = outputOf(memory, sums[name], kept);
  if (gInitial !== undefined) grads.initialState = gInitial.finish();
  return grads;
}
