import { UnsupportedError } from "@mamba-ts/backend";
import { kernelFor, reportDispatch, withNamedOperands } from "../dispatch.js";
import { refuseOnTape } from "../recorder.js";
import { commonBackend, expectInt } from "../run.js";
import { expectShape } from "../shape.js";
import { Tensor } from "../tensor.js";
import { describe, type SampleOptions } from "./sample.js";

/** What a chain of draws keeps on the device, so that a captured step can go on with it. */
export interface DrawState {
  /** int32 [batch]: the tokens drawn last. */
  readonly token: Tensor;
  /** int32 [batch], unsigned: the random counter of each row's next draw. */
  readonly counter: Tensor;
}
type DrawOptions = Omit<SampleOptions, "counter">;

/**
 * Draws one token per row of logits [batch, vocab] as `sample` does with `counter`, in place: the tokens go where `state.token` lies, and
 * every counter goes up by one. The way to draw inside `capture`, where a counter from the host would be the same in every replay.
 * There is no composition of it. Throws UnsupportedError where the backend has no kernel: ask `canSampleInto` first.
 * @returns [batch], float32: the tokens' log-probabilities, as `sample` gives them
 */
export function sampleInto(logits: Tensor, { token, counter }: DrawState, options: DrawOptions = {}): Tensor {
  const op = "sampleInto";
  refuseOnTape(op);
  const tensors = [logits, token, counter];
  commonBackend(op, tensors);
  const [backend, descriptor] = describe(logits, options, true);
  const shape = [descriptor.batch];
  for (const t of [token, counter]) {
    expectInt(op, t, "state");
    expectShape(op, "state", t.shape, shape);
  }
  const kernel = token.isDense && counter.isDense ? kernelFor(backend, "sample", descriptor) : undefined;
  if (kernel === undefined)
    throw new UnsupportedError(`${op}: backend ${backend.name} has no kernel for this`, {
      hint: "use sample, and dense states",
    });
  reportDispatch("sample", "forward", "fused");
  const { outputs } = withNamedOperands(["logits", "token", "counter"], tensors, kernel.strided, (operands) =>
    kernel.op.forward(operands, descriptor, { save: false }),
  );
  return Tensor.fromBuffer(backend, outputs["logprob"]!, shape);
}

/** Whether `sampleInto` can draw from such logits [batch, vocab] on their backend. */
export function canSampleInto(logits: Tensor, options: DrawOptions = {}): boolean {
  return kernelFor(logits.backend, "sample", describe(logits, options, true)[1]) !== undefined;
}
