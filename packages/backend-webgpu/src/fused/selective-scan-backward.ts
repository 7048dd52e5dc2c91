import type { Buf, FusedOps, SelectiveScanDescriptor } from "@mamba-ts/backend";
import { reduceMiddle } from "../primitives/axis.js";
import { place } from "../primitives/shape.js";
import type { WebGpuMemory } from "../storage.js";
import { gridOf, optional, rowsOf } from "./operands.js";
import {
  CHUNK,
  flagsOf,
  lanesOf,
  packSmall,
  type ScanArgs,
  slotSize,
  stretchesOf,
  walkOf,
} from "./selective-scan-shared.js";

type Op = NonNullable<FusedOps["selectiveScan"]>;
type Backward = NonNullable<Op["backward"]>;
type Name = keyof ReturnType<Backward>;

/** How many channels share a workgroup, so that its memory stays below 16 KiB. */
function shapeOf({ dState, dInner, groups, batch, length }: SelectiveScanDescriptor) {
  const CHANNELS = dState <= 16 ? 32 : dState <= 32 ? 16 : 8;
  const tiles = Math.ceil(dInner / groups / CHANNELS);
  const workgroups = tiles * groups * batch;
  return { CHANNELS, tiles, workgroups, ...stretchesOf(workgroups, length) };
}

function partsOf(d: SelectiveScanDescriptor): number[] {
  const { batch, length, dInner, dState, groups, hasZ } = d;
  const { tiles, splits } = shapeOf(d);
  const perToken = batch * length * dInner;
  const perPart = splits * batch * dInner;
  return [
    perToken,
    perToken,
    hasZ ? perToken : 0,
    batch * length * groups * tiles * 2 * dState,
    perPart * dState,
    perPart,
    perPart,
    slotSize(d),
  ];
}

/** All gradients lie in one buffer at first. */
export function backwardBytes(d: SelectiveScanDescriptor): number {
  return partsOf(d).reduce((sum, count) => sum + 4 * count + 256, 0);
}

/** See `FusedOp.backward`; `saved` holds the states that forward.wgsl kept. */
export function scanBackward(
  memory: WebGpuMemory,
  args: ScanArgs,
  d: SelectiveScanDescriptor,
  saved: readonly Buf[],
  gradOutputs: Parameters<Backward>[4],
  needs: ReadonlySet<Name>,
): ReturnType<Backward> {
  const { gpu } = memory;
  const { batch, length, dInner, dState, groups } = d;
  const { CHANNELS, tiles, workgroups, splits, stretch } = shapeOf(d);
  const slot = slotSize(d);
  const small = packSmall(memory, args, d, true);
  const states = memory.own(saved[0]!);
  // Slots before each stretch, after the last, then the kept ones: the forward pass may have cut the sequence otherwise.
  const saved_splits = states.count / Math.max(1, slot) - 1 - Math.ceil(length / CHUNK);
  const carry = memory.alloc((splits + 1) * slot, "float32");
  const last = splits * slot;
  if (gradOutputs.finalState === undefined)
    gpu.run("fill/fill", { y: carry }, { start: last, count: slot, word: 0 }, { threads: slot });
  else
    place(memory, memory.own(gradOutputs.finalState.buf), carry, {
      rows: 1,
      run: slot,
      x_pitch: 0,
      y_start: last,
      y_pitch: 0,
    });
  const [x, delta, z] = [rowsOf(args.x), rowsOf(args.delta), rowsOf(args.z)];
  const gy = optional(memory, gradOutputs.y);
  const inputs = { delta: memory.own(args.delta.buf), z: optional(memory, args.z), gy, small: small.buf, carry };
  const common = {
    batch,
    length,
    d_inner: dInner,
    groups,
    per_group: dInner / groups,
    splits,
    stretch,
    flags: flagsOf(d, { hasGy: gy !== undefined }),
    bias_at: small.at.bias_at,
    marks_at: small.at.marks_at,
    c_at: small.c_at,
    delta_start: delta.start,
    delta_pitch: delta.pitch,
    z_start: z.start,
    z_pitch: z.pitch,
  };
  if (splits > 1) {
    const sums = memory.alloc(splits * batch * dInner, "float32");
    const ends = Math.ceil(dInner / groups / 32);
    gpu.run(
      "selective-scan/backward-ends",
      { ...inputs, sums },
      { ...common, tiles: ends },
      { constants: walkOf(dState), grid: gridOf(ends * groups * batch, splits) },
    );
    const carries = { count: slot, channels: batch * dInner, d_state: dState, splits, d_inner: dInner };
    const reversed = { constants: { IS_REVERSED: 1 }, threads: slot };
    gpu.run("selective-scan/carries", { small: small.buf, sums, states: carry }, carries, reversed);
    memory.free(sums);
  }

  const { bufs, starts } = memory.allocTogether(partsOf(d));
  const [gx, gdelta, gz, gbc, ga, gd, gbias, gh] = bufs as Eight<Handle>;
  const [gx_at, gdelta_at, gz_at, gbc_at, ga_at, gd_at, gbias_at, gh_at] = starts as Eight<number>;
  gpu.run(
    "selective-scan/backward",
    { ...inputs, x: memory.own(args.x.buf), states, grads: { physical: gx.physical, offset: 0 } },
    {
      ...common,
      tiles,
      saved_splits,
      d_at: small.at.d_at,
      b_at: small.b_at,
      x_start: x.start,
      x_pitch: x.pitch,
      ...{ gx_at, gdelta_at, gz_at, gbc_at, ga_at, gd_at, gbias_at, gh_at },
    },
    {
      constants: { D_STATE: dState, CHUNK, LANES: lanesOf(dState), CHANNELS, ROUND: 2 },
      grid: gridOf(workgroups, splits),
    },
  );
  const grads: { [K in Name]?: Buf } = { x: gx, delta: gdelta };
  if (d.hasZ) grads.z = gz;
  else memory.free(gz);
  if (needs.has("B") || needs.has("C")) {
    const count = batch * length * groups * dState;
    const [gB, gC] = [memory.alloc(count, "float32"), memory.alloc(count, "float32")];
    const params = { count, groups, tiles, d_state: dState };
    gpu.run("selective-scan/sum-tiles", { parts: gbc, gB, gC }, params, { threads: count });
    grads.B = gB;
    grads.C = gC;
  }
  const parts = splits * batch;
  if (needs.has("A")) grads.A = reduceMiddle(memory, "sum", ga, "float32", 1, parts, dInner * dState);
  if (needs.has("D")) grads.D = reduceMiddle(memory, "sum", gd, "float32", 1, parts, dInner);
  if (needs.has("deltaBias")) grads.deltaBias = reduceMiddle(memory, "sum", gbias, "float32", 1, parts, dInner);
  if (needs.has("initialState")) grads.initialState = gh;
  else memory.free(gh);
  for (const buf of [small.buf, carry, gbc, ga, gd, gbias]) memory.free(buf);
  for (const name of Object.keys(grads) as Name[])
    if (!needs.has(name)) {
      memory.free(grads[name]!);
      delete grads[name];
    }
  return grads;
}

type Handle = ReturnType<WebGpuMemory["alloc"]>;
type Eight<T> = [T, T, T, T, T, T, T, T];
