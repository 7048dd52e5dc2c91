import type { Buf, FusedOps, MoeDescriptor } from "@mamba-ts/backend";
import type { Located } from "../gpu/gpu.js";
import { threadsFor } from "../shapes.js";
import type { WebGpuBuf, WebGpuMemory } from "../storage.js";

type Op = NonNullable<FusedOps["moe"]>;
type Args = Parameters<Op["forward"]>[0];
type Backward = NonNullable<Op["backward"]>;

/** Slots that share an expert: BLOCK in kernels/common/experts.wgsl. */
const BLOCK = 32;
const ACTIVATIONS = ["relu", "silu", "gelu"] as const;

/** How many slots there may have to be, whatever the router chooses: nothing is read back. */
function sizesOf({ tokens, topK, experts }: MoeDescriptor) {
  const pairs = tokens * topK;
  const blocks = pairs === 0 ? 0 : Math.floor(pairs / BLOCK) + Math.min(experts, pairs);
  return { pairs, blocks, slots: blocks * BLOCK, planSize: 2 * experts + blocks * (1 + BLOCK) + pairs };
}

/** The steps of one call, each a kernel of kernels/moe. */
function stepsOf(memory: WebGpuMemory, d: MoeDescriptor, plan: Located) {
  const { gpu } = memory;
  const { experts, topK, hidden, tokens } = d;
  const { pairs, blocks, slots } = sizesOf(d);
  const shared = { experts, blocks };
  const constants = { ACTIVATION: ACTIVATIONS.indexOf(d.activation), IS_GATED: Number(d.gated) };
  const rowsOf = (width: number): WebGpuBuf => memory.alloc(slots * width, "float32");
  return {
    group(indices: Located): void {
      gpu.run("moe/count", { indices, plan }, { pairs, ...shared }, { groups: experts });
      gpu.run("moe/assign", { indices, plan }, { pairs, ...shared }, { groups: experts });
    },
    /** Rows of tokens in the slots of their choices, times the router's weights if given. */
    spread(x: Located, width: number, weights?: Located): WebGpuBuf {
      const y = rowsOf(width);
      const params = { count: y.count, width, top_k: topK, ...shared };
      const options = { constants: { IS_WEIGHTED: Number(weights !== undefined) }, threads: y.count };
      gpu.run("moe/spread", { x, weights, plan, y }, params, options);
      return y;
    },
    combine(rows: Located, width: number, weights?: Located): WebGpuBuf {
      const y = memory.alloc(tokens * width, "float32");
      const params = { count: y.count, width, top_k: topK, ...shared };
      const options = { constants: { IS_WEIGHTED: Number(weights !== undefined) }, threads: y.count };
      gpu.run("moe/combine", { rows, weights, plan, y }, params, options);
      return y;
    },
    /** a weight^T, or with `transposed` a weight, of every block with its expert's weight; added to `into` if given. */
    product(a: Located, weight: Buf, n: number, k: number, transposed = false, into?: WebGpuBuf): WebGpuBuf {
      const y = into ?? rowsOf(n);
      const IS_TRANSPOSED = Number(transposed);
      gpu.run(
        "moe/products",
        { a, weight: memory.own(weight), plan, y },
        { n, k, ...shared },
        { constants: { IS_TRANSPOSED, ACCUMULATES: Number(into !== undefined) }, groups: blocks * Math.ceil(n / 64) },
      );
      return y;
    },
    weightGradient(g: Located, a: Located, n: number, k: number): WebGpuBuf {
      const y = memory.alloc(experts * n * k, "float32");
      const groups = experts * Math.ceil(n / 32) * Math.ceil(k / 64);
      gpu.run("moe/weight-gradient", { g, a, plan, y }, { n, k, ...shared }, { groups });
      return y;
    },
    activate(gate: Located | undefined, up: Located): WebGpuBuf {
      const inner = rowsOf(hidden);
      const params = { count: inner.count, hidden, ...shared };
      gpu.run("moe/activate", { gate, up, plan, inner }, params, { constants, threads: inner.count });
      return inner;
    },
    activateGradient(gate: Located | undefined, up: Located, g: Located) {
      const gup = rowsOf(hidden);
      const ggate = d.gated ? rowsOf(hidden) : undefined;
      const params = { count: gup.count, hidden, ...shared };
      gpu.run("moe/activate-gradient", { gate, up, plan, g, ggate, gup }, params, { constants, threads: gup.count });
      return { ggate, gup };
    },
    routerGradient(gy: Located, rows: Located, width: number): WebGpuBuf {
      const y = memory.alloc(pairs, "float32");
      const params = { pairs, width, top_k: topK, ...shared };
      const options = { constants: { THREADS: threadsFor(width) }, groups: pairs };
      gpu.run("moe/router-gradient", { gy, rows, plan, y }, params, options);
      return y;
    },
  };
}

/** `saved`: the plan, the tokens in their slots, what goes into the activation, and the experts' results. */
function forward(memory: WebGpuMemory, args: Args, d: MoeDescriptor, save: boolean) {
  const { width, hidden } = d;
  const plan = memory.alloc(sizesOf(d).planSize, "int32");
  const steps = stepsOf(memory, d, plan);
  steps.group(memory.own(args.indices.buf));
  const x = steps.spread(memory.own(args.x.buf), width);
  const up = steps.product(x, args.up.buf, hidden, width);
  const gate = args.gate === undefined ? undefined : steps.product(x, args.gate.buf, hidden, width);
  const inner = steps.activate(gate, up);
  const rows = steps.product(inner, args.down.buf, width, hidden);
  const y = steps.combine(rows, width, memory.own(args.weights.buf));
  memory.free(inner);
  const saved: Buf[] = [plan, x, rows, up, ...(gate === undefined ? [] : [gate])];
  if (!save) for (const buf of saved.splice(0)) memory.free(buf);
  return { outputs: { y }, saved };
}

function backward(
  memory: WebGpuMemory,
  args: Args,
  d: MoeDescriptor,
  saved: readonly Buf[],
  gy: Located,
  needs: Parameters<Backward>[5],
): ReturnType<Backward> {
  const { width, hidden } = d;
  const [plan, x, rows, up, gate] = saved.map((buf) => memory.own(buf)) as [
    WebGpuBuf,
    WebGpuBuf,
    WebGpuBuf,
    WebGpuBuf,
    WebGpuBuf | undefined,
  ];
  const steps = stepsOf(memory, d, plan);
  const grads: { -readonly [K in keyof ReturnType<Backward>]: Buf } = {};
  if (needs.has("weights")) grads.weights = steps.routerGradient(gy, rows, width);
  const g = steps.spread(gy, width, memory.own(args.weights.buf));
  if (needs.has("down")) {
    const inner = steps.activate(gate, up);
    grads.down = steps.weightGradient(g, inner, width, hidden);
    memory.free(inner);
  }
  const ginner = steps.product(g, args.down.buf, hidden, width, true);
  const { ggate, gup } = steps.activateGradient(gate, up, ginner);
  if (needs.has("up")) grads.up = steps.weightGradient(gup, x, hidden, width);
  if (needs.has("gate") && ggate !== undefined) grads.gate = steps.weightGradient(ggate, x, hidden, width);
  if (needs.has("x")) {
    const gx = steps.product(gup, args.up.buf, width, hidden, true);
    if (ggate !== undefined) steps.product(ggate, args.gate!.buf, width, hidden, true, gx);
    grads.x = steps.combine(gx, width);
    memory.free(gx);
  }
  for (const buf of [g, ginner, gup, ggate]) if (buf !== undefined) memory.free(buf);
  return grads;
}

/** A mixture of experts of which only the chosen ones are computed, tokens grouped by expert on the device: see kernels/moe. */
export function moe(memory: WebGpuMemory): Op {
  return {
    supports: (d) => {
      const most = 4 * sizesOf(d).slots * Math.max(d.width, d.hidden);
      return d.dtype === "float32" && d.experts > 0 && d.hidden > 0 && d.width > 0 && most <= memory.gpu.maxBufferBytes;
    },
    forward: (args, d, { save }) => forward(memory, args, d, save),
    backward: (args, d, _outputs, saved, { y: gradY }, needs) =>
      backward(memory, args, d, saved, memory.own(gradY!.buf), needs),
  };
}
