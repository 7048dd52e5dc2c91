import type { AttentionDescriptor, Buf, FusedOps } from "@mamba-ts/backend";
import type { WebGpuMemory } from "../storage.js";
import { optional } from "./operands.js";

type Op = NonNullable<FusedOps["attention"]>;
type Args = Parameters<Op["forward"]>[0];

/** A query, a key and a value lie in workgroup memory. */
const MAX_HEAD_DIM = 512;

const paramsOf = (d: AttentionDescriptor) => ({
  batch: d.batch,
  queries: d.queries,
  keys: d.keys,
  heads: d.heads,
  kv_heads: d.kvHeads,
  causal: Number(d.causal),
  has_segments: Number(d.hasSegments),
  scale: d.scale,
});

/** Grouped-query attention in memory linear in the number of keys: see kernels/attention. */
export function attention(memory: WebGpuMemory): Op {
  const { gpu } = memory;
  const inputsOf = (args: Args) => ({
    q: memory.own(args.q.buf),
    k: memory.own(args.k.buf),
    v: memory.own(args.v.buf),
    query_segments: optional(memory, args.querySegments),
    key_segments: optional(memory, args.keySegments),
  });
  return {
    supports: ({ dtype, headDim }) => dtype === "float32" && headDim > 0 && headDim <= MAX_HEAD_DIM,
    forward: (args, d, { save }) => {
      const rows = d.batch * d.queries * d.heads;
      const y = memory.alloc(rows * d.headDim, "float32");
      const log_sums = memory.alloc(rows, "float32");
      const options = { constants: { HEAD_DIM: d.headDim }, groups: rows };
      gpu.run("attention/forward", { ...inputsOf(args), y, log_sums }, paramsOf(d), options);
      if (!save) memory.free(log_sums);
      return { outputs: { y }, saved: save ? [log_sums as Buf] : [] };
    },
    backward: (args, d, outputs, [log_sums], { y: gradY }, needs) => {
      const rows = d.batch * d.queries * d.heads;
      const gy = memory.own(gradY!.buf);
      const saved = memory.alloc(2 * rows, "float32");
      gpu.run(
        "attention/dots",
        { log_sums: memory.own(log_sums!), y: memory.own(outputs.y!.buf), gy, saved },
        { rows, head_dim: d.headDim },
        { threads: rows },
      );
      const inputs = { ...inputsOf(args), gy, saved };
      const grads: { [K in "q" | "k" | "v"]?: Buf } = {};
      if (needs.has("q")) {
        const gq = memory.alloc(rows * d.headDim, "float32");
        const options = { constants: { HEAD_DIM: d.headDim }, groups: rows };
        gpu.run("attention/backward-queries", { ...inputs, gq }, paramsOf(d), options);
        grads.q = gq;
      }
      const keys = d.batch * d.keys * d.kvHeads;
      for (const name of ["k", "v"] as const) {
        if (!needs.has(name)) continue;
        const gkey = memory.alloc(keys * d.headDim, "float32");
        const constants = { HEAD_DIM: d.headDim, WANTS_V: Number(name === "v") };
        gpu.run("attention/backward-keys", { ...inputs, gkey }, paramsOf(d), { constants, groups: keys });
        grads[name] = gkey;
      }
      memory.free(saved);
      return grads;
    },
  };
}
