/** One update of S4D on sequences as long as MNIST's images, beside the same without kernels for transforms, long convolutions, GELU and GLU. */
import type { Backend, FusedOps } from "@mamba-ts/backend";
import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { override } from "@mamba-ts/backend-testing/cases";
import { isStateParameter, S4Model } from "@mamba-ts/s4";
import { fastFftLength, mean, mul, Rng, sub, type Tensor, tensor } from "@mamba-ts/tensor";
import { AdamW, gradientStep } from "@mamba-ts/train";
import { probesFor } from "../bounds.js";
import type { Context } from "../context.js";
import { measure } from "../harness.js";
import { expectClose } from "../inputs.js";

const [BATCH, LENGTH, WIDTH, LAYERS] = [16, 784, 64, 3];

export async function s4TrainBench({ backend, device, repeats, row }: Context): Promise<void> {
  using cpu = createCpuBackend();
  const { fft: _, fftConvolution: __, activation: ___, ...without } = (backend.fused ?? {}) as FusedOps;
  const composed = override(backend, { fused: without });
  // One sequence is enough to compare, and as much as plain TypeScript does in float64 while somebody waits.
  const checks = [new Run(backend, 1), new Run(cpu, 1, "float64")];
  const [got, want] = await Promise.all(checks.map(async (run) => [await run.update(), await run.update()]));
  const error = expectClose("s4-train", got!, want!, 1e-4);
  const [own, peer] = [new Run(backend, BATCH), new Run(composed, BATCH)];
  const size = fastFftLength(2 * LENGTH - 1);
  row(
    await measure(device, repeats, {
      bench: "s4-train",
      shape: `S4D, dModel ${WIDTH}, nLayer ${LAYERS}, dState 64, ${BATCH} x ${LENGTH} samples`,
      dtype: "float32",
      subject: { name: `update on ${backend.name}`, run: () => own.update().then(() => {}) },
      peers: [{ name: "without kernels for transforms and activations", run: () => peer.update().then(() => {}) }],
      probes: probesFor(backend).filter(({ unit }) => unit === "multiply-adds"),
      // The projection forwards and twice backwards; five transforms of a head's sequence, 2.5 n log2 n operations each.
      work: {
        "multiply-adds": BATCH * LAYERS * WIDTH * (3 * LENGTH * 2 * WIDTH + 5 * 1.25 * size * Math.log2(size)),
      },
      makes: { unit: "sequences", count: BATCH },
      error,
    }),
  );
  for (const run of [...checks, own, peer]) run.dispose();
}

class Run {
  readonly #model: S4Model;
  readonly #optimizer: AdamW;
  readonly #x: Float64Array;
  readonly #y: Float64Array;

  constructor(
    readonly backend: Backend,
    readonly batch: number,
    readonly dtype: "float32" | "float64" = "float32",
  ) {
    this.#x = new Rng(1).normal(batch * LENGTH);
    this.#y = new Rng(2).normal(batch * 10);
    const head = { kind: "regression", outputs: 10 } as const;
    this.#model = S4Model.create(
      { dModel: WIDTH, nLayer: LAYERS, dState: 64, init: "lin", dInput: 1, prenorm: true, head },
      { backend, dtype },
    );
    const state = { match: isStateParameter, rateScale: 0.1, weightDecay: 0 };
    this.#optimizer = new AdamW(this.#model, { groups: [state] });
  }

  /** The loss before the update. */
  async update(): Promise<number> {
    const loss = (): Tensor => {
      const x = tensor(this.backend, this.#x, [this.batch, LENGTH, 1], this.dtype);
      const { output } = this.#model.forward(x, { train: true });
      const error = sub(output, tensor(this.backend, this.#y, [this.batch, 10], this.dtype));
      return mean(mul(error, error));
    };
    return (await gradientStep(this.#optimizer, loss, { learningRate: 1e-3 })).loss;
  }

  dispose(): void {
    this.#optimizer.dispose();
    this.#model.dispose();
  }
}
