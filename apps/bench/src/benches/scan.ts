import type { Backend } from "@mamba-ts/backend";
import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { composedOnly } from "@mamba-ts/backend-testing/cases";
import {
  add,
  Rng,
  type SelectiveScanArguments,
  scope,
  selectiveScan,
  sum,
  type Tensor,
  valueAndGrad,
} from "@mamba-ts/tensor";
import { probesFor } from "../bounds.js";
import type { Context } from "../context.js";
import { measure } from "../harness.js";
import { expectClose, type Input, once, readAll, uniformInput, upload } from "../inputs.js";

const [LENGTH, INNER, STATE] = [256, 192, 16];
const STATES = LENGTH * INNER * STATE;

/** The selective scan as a block uses it, forward, and forward with its gradient, against core's composition of primitives. */
export async function scanBench({ backend, device, repeats, row }: Context): Promise<void> {
  const inputs = scanInputs(LENGTH, INNER, STATE);
  const composed = composedOnly(backend);
  using cpu = createCpuBackend({ fused: {} });
  const [ours, theirs, exact] = [upload(backend, inputs), upload(composed, inputs), upload(cpu, inputs, "float64")];
  const common = {
    shape: `1 x ${LENGTH} x ${INNER}, dState ${STATE}`,
    dtype: "float32",
    probes: probesFor(backend).filter(({ unit }) => unit === "exps"),
    makes: { unit: "states", count: STATES },
  };
  const rowFor = async (bench: string, run: (t: ScanTensors) => readonly Tensor[], exps: number, limit: number) => {
    const result = async (t: ScanTensors) => readAll(scope(() => run(t)));
    const error = expectClose(bench, await result(ours), await result(exact), limit);
    const on = (b: Backend, t: ScanTensors) => () => once(b, () => run(t));
    row(
      await measure(device, repeats, {
        ...common,
        bench,
        subject: { name: `selectiveScan on ${backend.name}`, run: on(backend, ours) },
        peers: [{ name: "composition of primitives", run: on(composed, theirs) }],
        work: { exps: exps * STATES },
        error,
      }),
    );
  };
  await rowFor("scan forward", (t) => [scanForward(t).y], 1, 1e-5);
  // The backward pass recomputes exp(delta A) on its way to the states, and again on its way back.
  await rowFor("scan forward and backward", scanGradients, 3, 1e-4);
}

export type ScanTensors = Required<Omit<SelectiveScanArguments, "softplus" | "marks">> & {
  readonly [K in ScanName]: Tensor;
};
type ScanName = "x" | "delta" | "A" | "B" | "C" | "D" | "z" | "deltaBias" | "initialState";

/** Shapes and ranges of the scan's arguments in a trained model. */
export const scanShapes = (length: number, inner: number, state: number) =>
  ({
    x: [[1, length, inner], -1, 1],
    delta: [[1, length, inner], -1, 1],
    A: [[inner, state], -state, -1],
    B: [[1, length, state], -1, 1],
    C: [[1, length, state], -1, 1],
    D: [[inner], 0, 1],
    z: [[1, length, inner], -1, 1],
    deltaBias: [[inner], -4, -2],
    initialState: [[1, inner, state], -1, 1],
  }) as const satisfies { [K in ScanName]: readonly [readonly number[], number, number] };

export function scanInputs(length: number, inner: number, state: number): { readonly [K in ScanName]: Input } {
  const rng = new Rng(1);
  const shapes = Object.entries(scanShapes(length, inner, state));
  return Object.fromEntries(
    shapes.map(([name, [shape, low, high]]) => [name, uniformInput(rng, shape, low, high)]),
  ) as { readonly [K in ScanName]: Input };
}

export function scanForward(t: ScanTensors) {
  return selectiveScan({ ...t, softplus: true });
}

/** Gradients of sum(y) + sum(finalState) with respect to every argument. */
export function scanGradients(t: ScanTensors): readonly Tensor[] {
  const { gradients } = valueAndGrad(() => {
    const { y, finalState } = scanForward(t);
    return { loss: add(sum(y), sum(finalState)) };
  }, Object.values(t));
  return gradients;
}
