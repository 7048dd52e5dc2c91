import type { Backend, DType } from "@mamba-ts/backend";
import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { createBackend } from "@mamba-ts/backend-wasm";
import { Mamba } from "@mamba-ts/mamba";
import { exp, matmul, Rng, scope, sum, type Tensor, zeros } from "@mamba-ts/tensor";
import type { Context } from "../context.js";
import { deviceOf } from "../context.js";
import { measure, type Probe } from "../harness.js";
import { expectClose, once, readAll, relativeError, uniformInput, upload } from "../inputs.js";
import { matmulPeers } from "../peers.js";
import { scanForward, scanInputs } from "./scan.js";

/** `backend-wasm` on one thread beside other libraries, and what it reaches of its own limits. */
export async function wasmBench(context: Context): Promise<void> {
  using one = await createBackend({ threads: 1 });
  await matmulBeside(one, context);
  await scanPerToken(one, context);
  using all = await createBackend();
  await largeDecode(all, context);
}

async function matmulBeside(backend: Backend, { repeats, row }: Context): Promise<void> {
  const n = 512;
  const rng = new Rng(1);
  const inputs = { a: uniformInput(rng, [n, n], -1, 1), b: uniformInput(rng, [n, n], -1, 1) };
  const ours = upload(backend, inputs);
  using cpu = createCpuBackend();
  const exact = upload(cpu, inputs, "float64");
  const product = () => scope(() => matmul(ours.a, ours.b));
  const want = await readAll([scope(() => matmul(exact.a, exact.b))]);
  const error = expectClose("matmul", await readAll([product()]), want, 1e-5);
  const run = async (): Promise<void> => {
    using result = product();
    await result.data();
  };
  row(
    await measure(deviceOf(backend), repeats, {
      bench: "wasm matmul",
      shape: `${n} x ${n} x ${n}, read back`,
      dtype: "float32",
      subject: { name: "matmul", run },
      peers: await matmulPeers(inputs.a.data, inputs.b.data, n),
      probes: [],
      work: {},
      makes: { unit: "floating point operations", count: 2 * n ** 3 },
      error,
    }),
  );
}

/** Exponentials of as many numbers as fit the second cache, over and over. */
function exponentials(backend: Backend): Probe {
  const [size, passes] = [2 ** 15, 64];
  const { x } = upload(backend, { x: uniformInput(new Rng(2), [size], -8, 0) });
  const run = (): void => {
    for (let i = 0; i < passes; i++) exp(x).dispose();
  };
  return { name: "exp alone", unit: "exps", work: size * passes, run: () => once(backend, run) };
}

async function scanPerToken(backend: Backend, { repeats, row }: Context): Promise<void> {
  const [length, inner, state] = [512, 1536, 16];
  const inputs = scanInputs(length, inner, state);
  const ours = upload(backend, inputs);
  using cpu = createCpuBackend();
  const exact = upload(cpu, inputs, "float64");
  const result = async (x: typeof ours) => readAll([scope(() => scanForward(x).y)]);
  const error = expectClose("scan", await result(ours), await result(exact), 1e-5);
  row(
    await measure(deviceOf(backend), repeats, {
      bench: "wasm scan",
      shape: `1 x ${length} x ${inner}, dState ${state}`,
      dtype: "float32",
      subject: { name: "selectiveScan", run: () => once(backend, () => scanForward(ours)) },
      peers: [],
      probes: [exponentials(backend)],
      work: { exps: length * inner * state },
      makes: { unit: "tokens", count: length },
      error,
    }),
  );
}

/** Reads memory that fits no cache, in as many rows as keep every thread busy. */
function reader(backend: Backend): Probe {
  const shape = [64, 2 ** 20];
  const x = zeros(backend, shape);
  const bytes = 4 * shape[0]! * shape[1]!;
  return { name: "sums of 256 MiB", unit: "bytes read", work: bytes, run: () => once(backend, () => sum(x, 1)) };
}

/** Bytes of all weights as they are stored: what a token has to read at least. */
function weightBytes(model: Mamba): number {
  const perElement: { readonly [K in DType]?: number } = { float32: 4, bf16: 2, f16: 2, q8_0: 34 / 32 };
  return model.parameters().reduce((n, { value }) => n + perElement[value.dtype]! * value.size, 0);
}

/** Decoding with a model of mamba-130m's shape and random weights, in three formats. */
async function largeDecode(backend: Backend, { repeats, row }: Context): Promise<void> {
  const tokens = 4;
  let exact: ArrayLike<number> | undefined;
  for (const dtype of ["float32", "bf16", "q8_0"] as const) {
    using model = Mamba.create({ dModel: 768, nLayer: 24, vocabSize: 50_280 }, { backend, seed: 1, dtype });
    const decode = async (): Promise<ArrayLike<number>> => {
      using state = model.createState(1);
      let last: Tensor | undefined;
      for (let t = 0; t < tokens; t++) {
        last?.dispose();
        last = scope(() => model.forward([[t * 37]], { state, into: state, logits: "last" }).logits!);
      }
      return readAll([last!]);
    };
    const logits = await decode();
    exact ??= logits;
    row(
      await measure(deviceOf(backend), repeats, {
        bench: "wasm decode",
        shape: `dModel 768, nLayer 24, vocabulary 50280, ${tokens} tokens; the error is that of the format`,
        dtype,
        subject: { name: "Mamba", run: () => decode().then(() => {}) },
        peers: [],
        probes: [reader(backend)],
        work: { "bytes read": tokens * weightBytes(model) },
        makes: { unit: "tokens", count: tokens },
        error: relativeError(logits, exact),
      }),
    );
  }
}
