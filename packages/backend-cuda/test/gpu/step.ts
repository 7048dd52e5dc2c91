/** The kernels of a decoding step at sizes that each of them is chosen for, against a pass over the whole in float64 on the CPU from the same weights: `node step.mjs [dModel]…`. */
import { createBackend as createCpu } from "@mamba-ts/backend-cpu";
import { Mamba, type MambaConfig } from "@mamba-ts/mamba";
import { cast, Rng, scope, type Tensor, tensor, watchDispatch } from "@mamba-ts/tensor";
import { createBackend } from "../../src/index.js";

const nativeFolder = process.env["MAMBA_TS_CUDA_NATIVE"];
const backend = await createBackend({ poison: true, ...(nativeFolder === undefined ? {} : { nativeFolder }) });
const cpu = await createCpu();
console.log(backend.device);
const common = { nLayer: 1, vocabSize: 61, dState: 16 };
const cases: readonly (readonly [config: MambaConfig, batch: number, dtype: "bf16" | "f16" | "float32"])[] = [
  [{ ...common, dModel: 768 }, 1, "bf16"],
  [{ ...common, dModel: 768 }, 1, "float32"],
  [{ ...common, dModel: 128, norm: "layer", bias: true }, 1, "bf16"],
  [{ ...common, dModel: 136, bias: true, dConv: 2 }, 1, "f16"],
  [{ ...common, dModel: 768 }, 3, "bf16"],
  [{ ...common, dModel: 2048 }, 1, "bf16"],
  [{ ...common, dModel: 768, nLayer: 2 }, 37, "bf16"],
  [{ ...common, dModel: 768 }, 9, "float32"],
  [{ ...common, dModel: 1536 }, 5, "bf16"],
  [{ ...common, dModel: 192, dState: 12 }, 70, "bf16"],
  [{ ...common, dModel: 192, dState: 12, dConv: 3 }, 130, "f16"],
  [{ ...common, dModel: 160 }, 7, "bf16"],
  [{ ...common, dModel: 128, innerNorm: "weighted", innerNormEps: 1e-6 }, 9, "bf16"],
  [{ ...common, dModel: 128, norm: "layer", bias: true, dState: 8 }, 6, "bf16"],
  [{ ...common, dModel: 128, dState: 64 }, 6, "bf16"],
  [{ ...common, dModel: 256, dtRank: 128 }, 64, "bf16"],
  [{ ...common, dModel: 128, dtRank: 256 }, 13, "bf16"],
  [{ ...common, dModel: 384 }, 37, "f16"],
  [{ ...common, dModel: 256, dState: 12, innerNorm: "weighted", innerNormEps: 1e-6 }, 70, "bf16"],
  [{ ...common, dModel: 2048 }, 9, "bf16"],
  [{ ...common, dModel: 2048, dInner: 2048 }, 70, "bf16"],
  [{ ...common, dModel: 1536 }, 37, "f16"],
  [{ ...common, dModel: 2240, dInner: 2112, nLayer: 2, norm: "layer", bias: true, dConv: 3 }, 5, "bf16"],
  [{ ...common, dModel: 2112, dInner: 2048, dConv: 1, dState: 12 }, 20, "f16"],
  [{ ...common, dModel: 4096, dInner: 64, dtRank: 16 }, 6, "bf16"],
  [{ ...common, dModel: 4352, dInner: 64, dtRank: 16 }, 5, "bf16"],
  // The norm of the second layer is prepared by the first.
  [{ ...common, dModel: 2048, nLayer: 2 }, 20, "bf16"],
  [{ ...common, dModel: 134, nLayer: 2 }, 6, "bf16"],
  [{ ...common, dModel: 130 }, 9, "float32"],
  [{ ...common, dModel: 136, norm: "layer", bias: true }, 7, "float32"],
  [{ ...common, dModel: 256, dState: 4, innerNorm: "plain", innerNormEps: 1e-6 }, 11, "f16"],
];
function distance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [difference, size] = [0, 0];
  for (let i = 0; i < b.length; i++) {
    difference += (a[i]! - b[i]!) ** 2;
    size += b[i]! ** 2;
  }
  return a.length === b.length ? Math.sqrt(difference / (size || 1)) : Number.NaN;
}
async function numbers(t: Tensor): Promise<Float64Array> {
  const wide = scope(() => (t.dtype === "float64" ? t : cast(t, "float32")));
  const data = Float64Array.from((await wide.data()) as Float32Array);
  if (wide !== t) wide.dispose();
  return data;
}

let failed = 0;
const widths = process.argv.slice(2).map(Number);
for (const [config, batch, dtype] of cases) {
  if (widths.length > 0 && !widths.includes(config.dModel)) continue;
  const rng = new Rng(3);
  // Fewer where the reference takes long.
  const tokens = batch * config.dModel > 100_000 ? 2 : 4;
  const rows = Array.from({ length: batch }, () => Int32Array.from(rng.integers(tokens, config.vocabSize)));
  const drawn = Mamba.create(config, { backend: cpu, seed: 5, dtype });
  const [exact, own] = [new Mamba(config), new Mamba(config)];
  const sources = drawn.parameters();
  for (const [i, p] of exact.parameters().entries()) {
    const data = await numbers(sources[i]!.value);
    p.value = tensor(cpu, data, p.shape, "float64");
    const mine = own.parameters()[i]!;
    mine.value = scope(() => cast(tensor(backend, data, p.shape, "float32"), mine.dtypeIn(dtype)));
  }
  drawn.dispose();
  const whole = exact.forward(rows, { logits: "none" });
  const state = own.createState(batch);
  // What goes into the products of many sequences is rounded; of few, nothing is.
  const isFew = batch <= 4;
  const inner = isFew || dtype === "float32" ? undefined : dtype;
  const composed: string[] = [];
  let last: Tensor | undefined;
  const step = (t: number): Tensor =>
    scope(() => {
      const ids = Int32Array.from(rows, (row) => row[t]!);
      const given = { state, into: state, logits: "none", ...(inner === undefined ? {} : { dtype: inner }) } as const;
      return own.forward(tensor(backend, ids, [batch, 1]), given).hidden;
    });
  watchDispatch(
    ({ op, how }) => {
      if (how === "composed") composed.push(op);
    },
    () => {
      for (let t = 0; t < tokens; t++) {
        last?.dispose();
        last = step(t);
      }
    },
  );
  const all = await numbers(whole.hidden);
  const { dModel } = config;
  const wanted = Float64Array.from({ length: batch * dModel }, (_, i) => {
    const b = Math.floor(i / dModel);
    return all[(b * tokens + tokens - 1) * dModel + (i % dModel)]!;
  });
  const errors = [distance(await numbers(last!), wanted)];
  for (const [k, layer] of state.layers.entries())
    for (const part of ["conv", "ssm"] as const)
      errors.push(distance(await numbers(layer[part]), await numbers(whole.state.layers[k]![part])));
  const ok = errors.every((e) => e < (inner === undefined ? 1e-5 : 8e-3)) && composed.length === 0;
  if (!ok) failed++;
  const what = `${dModel} x ${config.nLayer}, dState ${config.dState}, batch ${batch}, ${dtype}`;
  const rest = errors.slice(1).map((e) => e.toExponential(1));
  console.log(
    `${ok ? "ok    " : "FAILED"} ${what}: ${errors[0]!.toExponential(2)}, states ${rest.join(" ")}${composed.length > 0 ? `, composed: ${composed.join(" ")}` : ""}`,
  );
  for (const t of [last!, whole.hidden]) t.dispose();
  whole.state.dispose();
  state.dispose();
  exact.dispose();
  own.dispose();
}
const { liveBuffers } = backend.memory();
console.log(`${failed} failed, ${liveBuffers} buffers live`);
backend[Symbol.dispose]();
process.exitCode = failed + liveBuffers > 0 ? 1 : 0;
