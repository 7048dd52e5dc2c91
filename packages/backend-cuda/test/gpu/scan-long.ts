/**
 * The scan and its gradients at a length of 2^20 and more than 2^31 elements an array (52 GB). The inputs repeat every 1,024 tokens, and every repetition starts
 * a new sequence: the last one's results have to be those of a run of 1,024 tokens, within what rounding to bf16 leaves of other chunks.
 */
import { cast, concat, fromHost, reshape, scope, selectiveScan, slice, type Tensor, vjp } from "@mamba-ts/tensor";
import { createBackend } from "../../src/index.js";
import { random, scanInputs } from "./support/scan-inputs.js";

const nativeFolder = process.env["MAMBA_TS_CUDA_NATIVE"];
const backend = await createBackend(nativeFolder === undefined ? {} : { nativeFolder });
const [period, length, dInner] = [1024, 2 ** 20, 2080];
const repeated = ["x", "delta", "B", "C", "z"] as const;

/** The tensor `length / period` times along the tokens. */
function repeat(t: Tensor): Tensor {
  return scope(() => {
    let all = t;
    while (all.shape[1]! < length) all = concat([all, all], 1);
    return reshape(all, all.shape);
  });
}

/** The last period of y, of the gradients of the inputs that repeat, in this order. */
async function results(tensors: { [name: string]: Tensor }, gy: Tensor, n: number): Promise<Float32Array[]> {
  const marks = fromHost(
    backend,
    Int32Array.from({ length: n }, (_, t) => (t % period === 0 ? 1 : 0)),
    [1, n],
    "int32",
  );
  const run = () => selectiveScan({ ...tensors, marks, softplus: true } as never).y;
  const tail = (t: Tensor): Tensor => scope(() => cast(slice(t, 1, n - period), "float32"));
  const inputs = repeated.map((name) => tensors[name]!);
  const kept = [scope(() => tail(run())), ...scope(() => vjp(() => [run()], inputs, [gy]).map((g) => tail(g!)))];
  const data: Float32Array[] = [];
  for (const t of kept) {
    data.push(Float32Array.from(await t.data()));
    t.dispose();
  }
  marks.dispose();
  return data;
}

const short: { [name: string]: Tensor } = scanInputs(backend, "bf16", 1, period, dInner);
const gy = random(backend, [1, period, dInner], "bf16");
const want = await results(short, gy, period);
const long: { [name: string]: Tensor } = { ...short };
for (const name of repeated) long[name] = repeat(short[name]!);
const got = await results(long, repeat(gy), length);
let failed = 0;
for (const [i, name] of ["y", ...repeated.map((n) => `g${n}`)].entries()) {
  let [difference, norm] = [0, 0];
  for (const [k, v] of want[i]!.entries()) {
    difference += (got[i]![k]! - v) ** 2;
    norm += v ** 2;
  }
  const error = Math.sqrt(difference / norm);
  if (!(error <= (name === "y" ? 4e-3 : 1e-2))) failed++;
  console.log(`${name}: relative norm ${error.toExponential(1)}, arrays of ${length * dInner} elements`);
}
console.log(`${backend.device}: ${failed} failed`);
process.exitCode = failed > 0 ? 1 : 0;
backend[Symbol.dispose]();
