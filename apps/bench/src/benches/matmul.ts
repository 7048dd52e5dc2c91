import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { matmul, Rng, scope } from "@mamba-ts/tensor";
import { probesFor } from "../bounds.js";
import type { Context } from "../context.js";
import { measure } from "../harness.js";
import { expectClose, once, readAll, uniformInput, upload } from "../inputs.js";

const N = 512;

/** A square matrix product against the loops of its definition. */
export async function matmulBench({ backend, device, repeats, row }: Context): Promise<void> {
  const rng = new Rng(1);
  const inputs = { a: uniformInput(rng, [N, N], -1, 1), b: uniformInput(rng, [N, N], -1, 1) };
  const [{ data: a }, { data: b }] = [inputs.a, inputs.b];
  const ours = upload(backend, inputs);
  using reference = createCpuBackend();
  const exact = upload(reference, inputs, "float64");
  const error = expectClose(
    "matmul",
    await readAll([scope(() => matmul(ours.a, ours.b))]),
    await readAll([scope(() => matmul(exact.a, exact.b))]),
    1e-5,
  );
  const y = new Float32Array(N * N);
  row(
    await measure(device, repeats, {
      bench: "matmul",
      shape: `${N} x ${N} x ${N}`,
      dtype: "float32",
      subject: { name: `matmul on ${backend.name}`, run: () => once(backend, () => matmul(ours.a, ours.b)) },
      peers: [{ name: "naive triple loop", run: () => naive(a, b, y) }],
      probes: probesFor(backend).filter(({ unit }) => unit === "multiply-adds"),
      work: { "multiply-adds": N ** 3 },
      makes: { unit: "multiply-adds", count: N ** 3 },
      error,
    }),
  );
}

function naive(a: Float32Array, b: Float32Array, y: Float32Array): void {
  for (let i = 0; i < N; i++)
    for (let j = 0; j < N; j++) {
      let sum = 0;
      for (let p = 0; p < N; p++) sum += a[i * N + p]! * b[p * N + j]!;
      y[i * N + j] = sum;
    }
}
