import type { Backend } from "@mamba-ts/backend";
import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { createBackend } from "@mamba-ts/backend-wasm";
import { exp, matmul, Rng, scope, type Tensor } from "@mamba-ts/tensor";
import type { Context } from "../context.js";
import { deviceOf } from "../context.js";
import { measure, type Probe } from "../harness.js";
import { expectClose, once, readAll, uniformInput, upload } from "../inputs.js";
import { matmulPeers } from "../peers.js";
import { scanForward, scanInputs } from "./scan.js";

/** `backend-wasm` on one thread and on two beside other libraries, and what it reaches of its own limits. */
export async function wasmBench(context: Context): Promise<void> {
  using one = await createBackend({ threads: 1 });
  using two = await createBackend({ threads: 2 });
  await matmulBeside(one, two, context);
  await scanPerToken(one, context);
}

async function matmulBeside(backend: Backend, two: Backend, { repeats, row }: Context): Promise<void> {
  const n = 512;
  const rng = new Rng(1);
  const inputs = { a: uniformInput(rng, [n, n], -1, 1), b: uniformInput(rng, [n, n], -1, 1) };
  using cpu = createCpuBackend();
  const exact = upload(cpu, inputs, "float64");
  const productOn = (on: Backend) => {
    const { a, b } = upload(on, inputs);
    return () => scope(() => matmul(a, b));
  };
  const product = productOn(backend);
  const want = await readAll([scope(() => matmul(exact.a, exact.b))]);
  const error = expectClose("matmul", await readAll([product()]), want, 1e-5);
  const reading = (make: () => Tensor) => async (): Promise<void> => {
    using result = make();
    await result.data();
  };
  const common = {
    dtype: "float32",
    probes: [],
    work: {},
    makes: { unit: "floating point operations", count: 2 * n ** 3 },
    error,
  };
  const alone = (on: Backend, make: () => Tensor) => () => once(on, make);
  row(
    await measure(deviceOf(two), repeats, {
      ...common,
      bench: "wasm matmul on two threads",
      shape: `${n} x ${n} x ${n}`,
      subject: { name: "two threads", run: alone(two, productOn(two)) },
      peers: [{ name: "one thread", run: alone(backend, product) }],
    }),
  );
  row(
    await measure(deviceOf(backend), repeats, {
      ...common,
      bench: "wasm matmul",
      shape: `${n} x ${n} x ${n}, read back`,
      subject: { name: "matmul", run: reading(product) },
      peers: await matmulPeers(inputs.a.data, inputs.b.data, n),
    }),
  );
}

/** Exponentials of as many numbers as fit the second cache, over and over. */
export function exponentials(backend: Backend): Probe {
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
