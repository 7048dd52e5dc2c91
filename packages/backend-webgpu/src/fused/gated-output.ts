import type { Buf, FusedOps, GatedOutputDescriptor } from "@mamba-ts/backend";
import { reduceMiddle } from "../primitives/axis.js";
import type { WebGpuMemory } from "../storage.js";
import { optional, rowsOf } from "./operands.js";

type Op = NonNullable<FusedOps["gatedOutput"]>;
type Args = Parameters<Op["forward"]>[0];

function paramsOf(args: Args, { rows, channels }: GatedOutputDescriptor) {
  const [y, x, z] = [rowsOf(args.y), rowsOf(args.x), rowsOf(args.z)];
  return {
    count: rows * channels,
    channels,
    y_start: y.start,
    y_pitch: y.pitch,
    x_start: x.start,
    x_pitch: x.pitch,
    z_start: z.start,
    z_pitch: z.pitch,
  };
}

/** (y + D x) silu(z): see kernels/gated-output. */
export function gatedOutput(memory: WebGpuMemory): Op {
  const inputsOf = (args: Args) => ({
    y: memory.own(args.y.buf),
    x: optional(memory, args.x),
    D: optional(memory, args.D),
    z: optional(memory, args.z),
  });
  const constantsOf = (d: GatedOutputDescriptor) => ({ HAS_D: Number(d.hasD), HAS_Z: Number(d.hasZ) });
  const bytes = (d: GatedOutputDescriptor): number => 16 * (d.rows * d.channels + 64);
  return {
    supports: ({ dtype }) => dtype === "float32" && { strided: ["y", "x", "z"] },
    supportsBackward: (d) => bytes(d) <= memory.gpu.maxBufferBytes,
    forward: (args, d) => {
      const out = memory.alloc(d.rows * d.channels, "float32");
      const options = { constants: constantsOf(d), threads: out.count };
      memory.gpu.run("gated-output/forward", { ...inputsOf(args), out }, paramsOf(args, d), options);
      return { outputs: { out }, saved: [] };
    },
    backward: (args, d, _outputs, _saved, { out: gout }, needs) => {
      const count = d.rows * d.channels;
      const { bufs, starts } = memory.allocTogether([
        count,
        d.hasD ? count : 0,
        d.hasD ? count : 0,
        d.hasZ ? count : 0,
      ]);
      const [gy_at, gx_at, gd_at, gz_at] = starts as [number, number, number, number];
      const [gy, gx, gd, gz] = bufs as [Handle, Handle, Handle, Handle];
      memory.gpu.run(
        "gated-output/backward",
        { ...inputsOf(args), gout: memory.own(gout!.buf), grads: { physical: gy.physical, offset: 0 } },
        { ...paramsOf(args, d), gy_at, gx_at, gd_at, gz_at },
        { constants: constantsOf(d), threads: count },
      );
      const grads: { [K in "y" | "x" | "D" | "z"]?: Buf } = {};
      if (needs.has("D")) grads.D = reduceMiddle(memory, "sum", gd, "float32", 1, d.rows, d.channels);
      for (const [name, buf] of [
        ["y", gy],
        ["x", gx],
        ["z", gz],
      ] as const)
        if (needs.has(name)) grads[name] = buf;
        else memory.free(buf);
      memory.free(gd);
      return grads;
    },
  };
}

type Handle = ReturnType<WebGpuMemory["alloc"]>;
