import { type DispatchEvent, scope, valueAndGrad, watchDispatch } from "@mamba-ts/tensor";
import { AdamW, languageModelLoss } from "@mamba-ts/train";
import type { Context } from "../context.js";
import { makeModel } from "../model.js";
import { trainingData } from "./train.js";

/** Which operations of a training step and of decoding one byte run as the backend's kernels, and which as compositions. */
export async function dispatchBench({ backend, device, emit }: Context): Promise<void> {
  const model = makeModel(backend);
  const batch = await trainingData().batch(0);
  using optimizer = new AdamW(model);
  const weights = optimizer.parameters.map((p) => p.value);
  const step = (): void => {
    const { gradients } = valueAndGrad(() => ({ loss: languageModelLoss(model, batch).loss }), weights);
    optimizer.update(gradients, 1e-3);
  };
  using state = model.createState(1);
  const decode = (): void => {
    model.forward([[65]], { state, into: state, logits: "last" });
  };
  for (const [what, run] of [
    ["training step", step],
    ["decoding one byte", decode],
  ] as const) {
    const ops = count((onEvent) => watchDispatch(onEvent, () => scope(run)));
    await backend.synchronize();
    const lines = ops.map(({ op, direction, how, times }) => `  ${how.padEnd(8)} ${op} ${direction}, ${times} times`);
    emit([`dispatch  ${what}`, ...lines].join("\n"), { bench: "dispatch", what, device, ops });
  }
}

type Count = DispatchEvent & { readonly times: number };

/** Events of the same op, direction and way, counted, in the order of their first. */
function count(run: (onEvent: (event: DispatchEvent) => void) => void): Count[] {
  const seen = new Map<string, Count>();
  run((event) => {
    const key = `${event.op} ${event.direction} ${event.how}`;
    seen.set(key, { ...event, times: (seen.get(key)?.times ?? 0) + 1 });
  });
  return [...seen.values()];
}
