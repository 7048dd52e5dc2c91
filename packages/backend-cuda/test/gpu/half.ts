/** Operations in bf16 against float64 on the CPU from the same rounded inputs, outputs within 4e-3 and gradients within 1e-2: `node half.mjs [part of a name]`. */
import type { Backend, DType } from "@mamba-ts/backend";
import { createBackend as createCpu } from "@mamba-ts/backend-cpu";
import * as t from "@mamba-ts/tensor";
import { createBackend } from "../../src/index.js";

const nativeFolder = process.env["MAMBA_TS_CUDA_NATIVE"];
const backend = await createBackend({ poison: true, ...(nativeFolder === undefined ? {} : { nativeFolder }) });
const cpu = await createCpu();
console.log(backend.device);
const [part = ""] = process.argv.slice(2);
let failed = 0;

/** An argument: its shape, the dtype it has beside bf16 activations, and its scale. */
type Given = {
  readonly shape: readonly number[];
  readonly dtype?: DType;
  readonly scale?: number;
  readonly fixed?: boolean;
};
type Args = { readonly [name: string]: t.Tensor };
interface Case {
  readonly name: string;
  readonly args: { readonly [name: string]: Given };
  run(args: Args): { readonly [name: string]: t.Tensor };
}

const half = (shape: readonly number[]): Given => ({ shape, dtype: "bf16" });
const wide = (shape: readonly number[], scale = 1): Given => ({ shape, dtype: "float32", scale });
const conv = (
  width: number,
  channels: number,
  length: number,
  more: { initial?: boolean; sliced?: boolean },
): Case => ({
  name: `causalConv1d width ${width}, ${channels} channels, length ${length}${more.initial ? ", state" : ""}${more.sliced ? ", a slice" : ""}`,
  args: {
    x: half([2, length, more.sliced ? 2 * channels : channels]),
    weight: half([channels, width]),
    bias: half([channels]),
    ...(more.initial ? { initialState: half([2, width - 1, channels]) } : {}),
  },
  run: ({ x, ...args }) =>
    t.causalConv1d({
      ...(args as unknown as Omit<Parameters<typeof t.causalConv1d>[0], "x">),
      x: more.sliced ? t.split(x!, [channels, channels])[1]! : x!,
      activation: "silu",
    }),
});
const cases: Case[] = [
  conv(4, 1536, 300, {}),
  conv(4, 64, 67, { initial: true, sliced: true }),
  conv(3, 12, 129, { initial: true }),
  conv(2, 8, 1, { initial: true }),
  conv(4, 5, 33, { initial: true }),
  ...(["rmsNorm", "layerNorm"] as const).flatMap((op) =>
    [
      [33, 768],
      [5, 2048],
      [3, 2560],
      [300, 2048],
      [7, 77],
    ].map(
      (shape): Case => ({
        name: `${op} of ${shape.join(" x ")}, float32 residual`,
        args: {
          x: half(shape),
          residual: wide(shape),
          weight: wide([shape[1]!]),
          ...(op === "layerNorm" ? { bias: wide([shape[1]!]) } : {}),
        },
        run: (args) => ({
          ...(op === "rmsNorm" ? t.rmsNorm : t.layerNorm)({ ...(args as unknown as t.NormArguments), eps: 1e-5 }),
        }),
      }),
    ),
  ),
  ...[half, wide].map(
    (of): Case => ({
      name: `linear of bf16 with a ${of([1]).dtype} weight`,
      args: { x: half([130, 96]), weight: of([72, 96]), bias: wide([72]) },
      run: ({ x, weight, bias }) => ({ y: t.linear(x!, weight!, { bias }) }),
    }),
  ),
  {
    name: "linear of a slice, one row",
    args: { x: half([1, 80]), weight: wide([1536, 48]) },
    run: ({ x, weight }) => ({ y: t.linear(t.slice(x!, 1, 0, 48), weight!) }),
  },
  {
    name: "linearCrossEntropy of bf16 with a float32 weight",
    args: { hidden: half([77, 64]), weight: wide([515, 64], 0.2) },
    run: ({ hidden, weight }) => ({
      losses: t.linearCrossEntropy(
        hidden!,
        weight!,
        t.tensor(
          hidden!.backend,
          Int32Array.from({ length: 77 }, (_, i) => (i * 37) % 515),
        ),
      ),
    }),
  },
  {
    name: "split and concat of bf16",
    args: { x: half([3, 40, 48]) },
    run: ({ x }) => {
      const [a, b, c] = t.split(x!, [16, 24, 8]) as [t.Tensor, t.Tensor, t.Tensor];
      return { y: t.concat([t.mul(c, c), t.add(a, 1), b], 2) };
    },
  },
];

/** Outputs, and gradients of their product with random weights. */
async function evaluate(c: Case, on: Backend, dtypeOf: (g: Given) => DType) {
  const rng = new t.Rng(11);
  const names = Object.keys(c.args);
  const { outputs, gradients } = t.scope((): { outputs: Args; gradients: t.Tensor[] } => {
    const args = Object.fromEntries(
      names.map((name) => {
        const { shape, scale = 1, dtype } = c.args[name]!;
        const data = rng.normal(t.sizeOf(shape)).map((x) => scale * x);
        return [
          name,
          t.cast(
            t.tensor(on, roundTo(data, dtype!), shape, on === cpu ? "float64" : "float32"),
            dtypeOf(c.args[name]!),
          ),
        ];
      }),
    );
    const result = t.valueAndGrad(
      () => {
        const made = c.run(args);
        const random = new t.Rng(13);
        const terms = Object.values(made).map((y) => {
          const dtype = on === cpu ? "float64" : "float32";
          const weights = t.tensor(on, random.normal(y.size), y.shape, dtype);
          return t.sum(t.reshape(t.mul(t.cast(y, dtype), weights), [y.size]), 0);
        });
        return { ...made, loss: terms.reduce((a, b) => t.add(a, b)) };
      },
      names.map((name) => args[name]!),
    );
    const { loss: _, ...outputs } = result.value as { readonly loss: t.Tensor; readonly [name: string]: t.Tensor };
    return { outputs, gradients: [...result.gradients] };
  });
  const entries: [string, ArrayLike<number>][] = [];
  for (const [name, y] of Object.entries(outputs)) entries.push([name, await y.data()]);
  for (const [i, g] of gradients.entries()) entries.push([`gradient of ${names[i]}`, await g.data()]);
  for (const y of [...Object.values(outputs), ...gradients]) y.dispose();
  return entries;
}

const bits = new DataView(new ArrayBuffer(4));
/** float32 or bf16 numbers nearest to those given, ties to even. */
function roundTo(data: Float64Array, dtype: DType): Float64Array {
  if (dtype === "float32") return data.map(Math.fround);
  return data.map((x) => {
    bits.setFloat32(0, x);
    const u = bits.getUint32(0);
    bits.setUint32(0, (u + 0x7fff + ((u >>> 16) & 1)) & 0xffff0000);
    return bits.getFloat32(0);
  });
}
function distance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [difference, size] = [0, 0];
  for (let i = 0; i < b.length; i++) {
    difference += (a[i]! - b[i]!) ** 2;
    size += b[i]! ** 2;
  }
  return a.length === b.length ? Math.sqrt(difference / (size || 1)) : Number.NaN;
}

for (const c of cases) {
  if (!c.name.includes(part)) continue;
  try {
    const want = await evaluate(c, cpu, () => "float64");
    const got = await evaluate(c, backend, (g) => g.dtype!);
    const again = await evaluate(c, backend, (g) => g.dtype!);
    for (const [i, [name, expected]] of want.entries()) {
      const d = distance(got[i]![1], expected);
      const limit = name.startsWith("gradient") ? 1e-2 : 4e-3;
      const same = Buffer.from(Float32Array.from(got[i]![1]).buffer).equals(
        Buffer.from(Float32Array.from(again[i]![1]).buffer),
      );
      const ok = d <= limit && same;
      if (!ok) failed++;
      console.log(
        `${ok ? "ok    " : "FAILED"} ${c.name}: ${name} ${d.toExponential(2)}${same ? "" : ", not the same bits again"}`,
      );
    }
  } catch (error) {
    failed++;
    console.log(`FAILED ${c.name}: ${(error as Error).message}`);
  }
}
const { liveBuffers } = backend.memory();
console.log(`${failed} failed, ${liveBuffers} buffers live`);
backend[Symbol.dispose]();
process.exitCode = failed + liveBuffers > 0 ? 1 : 0;
