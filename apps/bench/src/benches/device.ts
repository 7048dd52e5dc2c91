import type { Backend } from "@mamba-ts/backend";
import {
  add,
  matmul,
  type SelectiveScanArguments,
  selectiveScan,
  sum,
  type Tensor,
  valueAndGrad,
} from "@mamba-ts/tensor";
import type { Context } from "../context.js";
import { timesInTurn } from "../harness.js";
import { once } from "../inputs.js";
import { randomOn } from "../random-on.js";
import { short } from "../report.js";

/** (batch, dInner, length) of the selective scan in models of 130 million parameters and up; dState is 16. */
const SCANS = [
  [8, 1536, 2048],
  [1, 1536, 16_384],
  [1, 5120, 2048],
  [8, 2048, 512],
] as const;
const STATES = 16;
const SQUARE = 4096;
/** Float32 numbers that a copy moves: more than any cache holds. */
const COPIED = 2 ** 26;

/**
 * A large device's own figures: the rate of copying, one large matrix product, and the selective scan forwards and backwards at the
 * sizes of real models, each beside the rate of copying measured in turn with it. Sizes that exceed a buffer of this device are left
 * out, and said. Results are not compared with float64 here: the conformance suite does that, at sizes where it can.
 */
export async function deviceBench({ backend, device, repeats, emit }: Context): Promise<void> {
  const source = randomOn(backend, [COPIED], 0, 1);
  const copy = {
    name: "copy",
    run: () => once(backend, () => backend.free(backend.cast(operandOf(source), "float32"))),
  };
  const copied = 8 * COPIED;
  const report = async (
    bench: string,
    shape: string,
    run: () => Promise<void>,
    work: { readonly unit: string; readonly count: number; readonly bytes: number },
  ): Promise<void> => {
    const [own, moved] = await timesInTurn([{ name: bench, run }, copy], repeats);
    const bandwidth = copied / (moved!.median / 1000);
    const seconds = own!.median / 1000;
    const fraction = work.bytes / bandwidth / seconds;
    emit(
      `${bench}  ${shape}  float32\n  ${own!.median.toFixed(3)} ms (IQR ${own!.iqr.toFixed(3)}, ${own!.runs} runs), ` +
        `${short(work.count / seconds)} ${work.unit}/s; copy ${short(bandwidth)} bytes/s, of which ${(100 * fraction).toFixed(0)}%`,
      {
        bench,
        device,
        shape,
        ms: own!.median,
        iqrMs: own!.iqr,
        runs: own!.runs,
        ...work,
        copyBytesPerSecond: bandwidth,
        fraction,
      },
    );
  };

  const [a, b] = [randomOn(backend, [SQUARE, SQUARE], -1, 1), randomOn(backend, [SQUARE, SQUARE], -1, 1)];
  await report("matmul", `${SQUARE} x ${SQUARE} x ${SQUARE}`, () => once(backend, () => matmul(a, b)), {
    unit: "FLOP",
    count: 2 * SQUARE ** 3,
    bytes: 12 * SQUARE ** 2,
  });
  for (const t of [a, b]) t.dispose();

  for (const [batch, dInner, length] of SCANS) {
    const elements = batch * dInner * length;
    const shape = `batch ${batch}, dInner ${dInner}, length ${length}, dState ${STATES}, with z, D, bias, softplus`;
    // The gradients of a scan lie in one buffer at first: three per element, and those of the states' tiles.
    if (4 * elements * 4 > backend.limits.maxBufferBytes) {
      emit(`selectiveScan  ${shape}: left out, larger than this device's buffers`, {
        bench: "selectiveScan",
        shape,
        device,
      });
      continue;
    }
    const args = scanArguments(backend, batch, dInner, length);
    const forward = (): Tensor => selectiveScan({ ...args, softplus: true }).y;
    await report("selectiveScan forward", shape, () => once(backend, forward), {
      unit: "elements",
      count: elements,
      bytes: 16 * elements,
    });
    await report("selectiveScan forward and backward", shape, () => once(backend, () => gradients(args)), {
      unit: "elements",
      count: elements,
      bytes: (16 + 32) * elements,
    });
    for (const t of Object.values(args)) t.dispose();
  }
  source.dispose();
}

type Arguments = Required<Omit<SelectiveScanArguments, "softplus" | "marks" | "initialState">>;

function scanArguments(
  backend: Backend,
  batch: number,
  dInner: number,
  length: number,
): { readonly [K in keyof Arguments]: Tensor } {
  return {
    x: randomOn(backend, [batch, length, dInner], -1, 1),
    delta: randomOn(backend, [batch, length, dInner], -1, 1),
    A: randomOn(backend, [dInner, STATES], -STATES, -1),
    B: randomOn(backend, [batch, length, STATES], -1, 1),
    C: randomOn(backend, [batch, length, STATES], -1, 1),
    D: randomOn(backend, [dInner], 0, 1),
    z: randomOn(backend, [batch, length, dInner], -1, 1),
    deltaBias: randomOn(backend, [dInner], -4, -2),
  };
}

function gradients(args: { readonly [K in keyof Arguments]: Tensor }): readonly Tensor[] {
  return valueAndGrad(() => {
    const { y, finalState } = selectiveScan({ ...args, softplus: true });
    return { loss: add(sum(y), sum(finalState)) };
  }, Object.values(args)).gradients as Tensor[];
}

function operandOf({ buf, shape, dtype }: Tensor) {
  return { buf, offset: 0, rowStride: shape.at(-1)!, shape, dtype };
}
