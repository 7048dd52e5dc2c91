import type { Buf, FusedOps, SelectiveScanDescriptor } from "@mamba-ts/backend";
import { reduceMiddle } from "../primitives/axis.js";
import { binary } from "../primitives/elementwise.js";
import { place } from "../primitives/place.js";
import type { WebGpuBuf, WebGpuMemory } from "../storage.js";
import { gridOf, optional, rowsOf } from "./operands.js";
import {
  CHUNK,
  flagsOf,
  lanesOf,
  packSmall,
  type ScanArgs,
  type Segment,
  segmentsOf,
  slotSize,
  stretchesOf,
  walkOf,
} from "./selective-scan-shared.js";

type Op = NonNullable<FusedOps["selectiveScan"]>;
type Backward = NonNullable<Op["backward"]>;
type Name = keyof ReturnType<Backward>;

/** How many channels share a workgroup, so that its memory stays below 16 KiB. */
function shapeOf({ dState, dInner, groups, batch }: SelectiveScanDescriptor, tokens: number) {
  const CHANNELS = dState <= 16 ? 32 : dState <= 32 ? 16 : 8;
  const tiles = Math.ceil(dInner / groups / CHANNELS);
  const workgroups = tiles * groups * batch;
  return { CHANNELS, tiles, workgroups, ...stretchesOf(workgroups, tokens) };
}

function partsOf(d: SelectiveScanDescriptor, tokens: number): number[] {
  const { batch, dInner, dState, groups, hasZ } = d;
  const { tiles, splits } = shapeOf(d, tokens);
  const perToken = batch * tokens * dInner;
  const perPart = splits * batch * dInner;
  return [
    perToken,
    perToken,
    hasZ ? perToken : 0,
    batch * tokens * groups * tiles * 2 * dState,
    perPart * dState,
    perPart,
    perPart,
    slotSize(d),
  ];
}

/**
 * The pieces in which the tokens are taken: a kernel binds the kept states as one buffer, and all its gradients as another.
 * @returns undefined where not even a few tokens' would fit
 */
export function scanSegments(memory: WebGpuMemory, d: SelectiveScanDescriptor): Segment[] | undefined {
  const most = memory.gpu.maxBufferBytes;
  return segmentsOf(d.length, (tokens) => {
    const gradients = partsOf(d, tokens).reduce((sum, count) => sum + 4 * count + 256, 0);
    const { splits } = shapeOf(d, tokens);
    return gradients <= most && 4 * (splits + 1 + Math.ceil(tokens / CHUNK)) * slotSize(d) <= most;
  });
}

interface Work {
  readonly args: ScanArgs;
  readonly d: SelectiveScanDescriptor;
  readonly small: ReturnType<typeof packSmall>;
  readonly gy: WebGpuBuf | undefined;
  readonly needs: ReadonlySet<Name>;
}

/** See `FusedOp.backward`; `saved` holds the states that forward.wgsl kept, a buffer a segment. */
export function scanBackward(
  memory: WebGpuMemory,
  args: ScanArgs,
  d: SelectiveScanDescriptor,
  saved: readonly Buf[],
  gradOutputs: Parameters<Backward>[4],
  needs: ReadonlySet<Name>,
): ReturnType<Backward> {
  const { batch, length, dInner, dState, groups } = d;
  const segments = scanSegments(memory, d)!;
  const small = packSmall(memory, args, d, true);
  const work: Work = { args, d, small, gy: optional(memory, gradOutputs.y), needs };
  const grads: { [K in Name]?: WebGpuBuf } = {};
  const perState = batch * length * groups * dState;
  if (needs.has("B") || needs.has("C"))
    for (const name of ["B", "C"] as const) grads[name] = memory.alloc(perState, "float32");
  let outgoing = gradOutputs.finalState && memory.own(gradOutputs.finalState.buf);
  for (const [i, segment] of [...segments.entries()].reverse()) {
    const part = backwardSegment(memory, work, segment, memory.own(saved[i]!), outgoing, grads);
    if (i < segments.length - 1) memory.free(outgoing!);
    outgoing = part.initialState;
    for (const name of ["x", "delta", "z"] as const) {
      const made = part[name];
      if (made === undefined || segments.length === 1) grads[name] = made as WebGpuBuf;
      else {
        grads[name] ??= memory.alloc(batch * length * dInner, "float32");
        const run = (segment.last - segment.first) * dInner;
        const at = { rows: batch, run, x_pitch: run, y_start: segment.first * dInner, y_pitch: length * dInner };
        place(memory, made, grads[name], at);
        memory.free(made);
      }
    }
    for (const name of ["A", "D", "deltaBias"] as const) {
      const [made, sum] = [part[name], grads[name]];
      if (made === undefined) continue;
      grads[name] = sum === undefined ? made : added(memory, sum, made);
    }
  }
  memory.free(small.buf);
  grads.initialState = outgoing!;
  for (const name of Object.keys(grads) as Name[])
    if (grads[name] === undefined || !needs.has(name)) {
      if (grads[name] !== undefined) memory.free(grads[name]);
      delete grads[name];
    }
  return grads;
}

function added(memory: WebGpuMemory, a: WebGpuBuf, b: WebGpuBuf): WebGpuBuf {
  const [u, v] = [a, b].map((buf) => ({
    buf,
    offset: 0,
    rowStride: buf.count,
    shape: [buf.count],
    dtype: "float32" as const,
  }));
  const sum = binary(memory, "add", u!, v!) as WebGpuBuf;
  memory.free(a);
  memory.free(b);
  return sum;
}

/** Of one segment: gx, gdelta and gz of its rows, its part of gA, gD and gbias, and the gradient of the state before it. gB and gC go into `into`. */
function backwardSegment(
  memory: WebGpuMemory,
  { args, d, small, gy, needs }: Work,
  segment: Segment,
  states: WebGpuBuf,
  outgoing: WebGpuBuf | undefined,
  into: { readonly [K in Name]?: WebGpuBuf },
): { readonly [K in Name]?: WebGpuBuf } & { readonly initialState: WebGpuBuf } {
  const { gpu } = memory;
  const { batch, length, dInner, dState, groups } = d;
  const tokens = segment.last - segment.first;
  const { CHANNELS, tiles, workgroups, splits, stretch } = shapeOf(d, tokens);
  const slot = slotSize(d);
  // Slots before each stretch, after the last, then the kept ones: the forward pass may have cut the tokens otherwise.
  const saved_splits = states.count / Math.max(1, slot) - 1 - Math.ceil(tokens / CHUNK);
  const carry = memory.alloc((splits + 1) * slot, "float32");
  const last = splits * slot;
  if (outgoing === undefined)
    gpu.run("fill/fill", { y: carry }, { start: last, count: slot, word: 0 }, { threads: slot });
  else place(memory, outgoing, carry, { rows: 1, run: slot, x_pitch: 0, y_start: last, y_pitch: 0 });
  const [x, delta, z] = [rowsOf(args.x), rowsOf(args.delta), rowsOf(args.z)];
  const inputs = { delta: memory.own(args.delta.buf), z: optional(memory, args.z), gy, small: small.buf, carry };
  const common = {
    batch,
    length,
    d_inner: dInner,
    groups,
    per_group: dInner / groups,
    splits,
    stretch,
    ...segment,
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

  // All gradients lie in one buffer, as that is one binding.
  const { bufs, starts } = memory.allocTogether(partsOf(d, tokens));
  const [gx, gdelta, gz, gbc, ga, gd, gbias, gh] = bufs as Eight<WebGpuBuf>;
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
  if (into.B !== undefined && into.C !== undefined) {
    const count = batch * tokens * groups * dState;
    const [run, start] = [tokens * groups * dState, segment.first * groups * dState];
    const params = { count, groups, tiles, d_state: dState, run, start, pitch: length * groups * dState };
    gpu.run("selective-scan/sum-tiles", { parts: gbc, gB: into.B, gC: into.C }, params, { threads: count });
  }
  const sumOf = (parts: WebGpuBuf, count: number): WebGpuBuf =>
    reduceMiddle(memory, "sum", parts, "float32", 1, splits * batch, count) as WebGpuBuf;
  const sums: { [K in Name]?: WebGpuBuf } = {};
  if (needs.has("A")) sums.A = sumOf(ga, dInner * dState);
  if (needs.has("D")) sums.D = sumOf(gd, dInner);
  if (needs.has("deltaBias")) sums.deltaBias = sumOf(gbias, dInner);
  for (const buf of [carry, gbc, ga, gd, gbias]) memory.free(buf);
  if (!d.hasZ) memory.free(gz);
  return { x: gx, delta: gdelta, ...(d.hasZ ? { z: gz } : {}), ...sums, initialState: gh };
}

type Eight<T> = [T, T, T, T, T, T, T, T];
