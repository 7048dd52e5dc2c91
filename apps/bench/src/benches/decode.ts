import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { composedOnly } from "@mamba-ts/backend-testing/cases";
import type { Mamba } from "@mamba-ts/mamba";
import { scope } from "@mamba-ts/tensor";
import { probesFor } from "../bounds.js";
import type { Context } from "../context.js";
import { measure, type Work } from "../harness.js";
import { expectClose, readAll } from "../inputs.js";
import { forwardWork, makeModel, shapeOf } from "../model.js";

const TOKENS = 64;

/** Bytes per second of a byte-level model that reads one byte after the other, each time making the logits of the next. */
export async function decodeBench({ backend, device, repeats, row }: Context): Promise<void> {
  using cpu = createCpuBackend({ fused: {} });
  const [ours, theirs, exact] = [makeModel(backend), makeModel(composedOnly(backend)), makeModel(cpu, "float64")];
  const error = expectClose("decode", await decode(ours), await decode(exact), 1e-5);
  const perToken = Object.entries(forwardWork(ours.config));
  const work: Work = Object.fromEntries(perToken.map(([unit, n]) => [unit, n * TOKENS]));
  row(
    await measure(device, repeats, {
      bench: "decode",
      shape: `${shapeOf(ours.config)}, ${TOKENS} bytes`,
      dtype: "float32",
      subject: { name: `Mamba on ${backend.name}`, run: () => decode(ours).then(() => {}) },
      peers: [{ name: "composition of primitives", run: () => decode(theirs).then(() => {}) }],
      probes: probesFor(backend).filter(({ unit }) => unit in work),
      work,
      makes: { unit: "bytes", count: TOKENS },
      error,
    }),
  );
}

/** Reads the same bytes from a fresh state; the last logits. */
async function decode(model: Mamba): Promise<ArrayLike<number>> {
  using state = model.createState(1);
  let last: ArrayLike<number> = [];
  for (let t = 0; t < TOKENS; t++) {
    const logits = scope(() => model.forward([[(t * 37) % 256]], { state, into: state, logits: "last" }).logits!);
    // A sampler reads every logit before the next step.
    last = await readAll([logits]);
  }
  return last;
}
