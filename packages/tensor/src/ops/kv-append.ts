import { type FloatDType, InvalidArgumentError, ShapeError } from "@mamba-ts/backend";
import { kernelFor, reportDispatch, withNamedOperands } from "../dispatch.js";
import { refuseOnTape } from "../recorder.js";
import { commonBackend, commonDType } from "../run.js";
import { scope } from "../scope.js";
import { show, sizeOf } from "../shape.js";
import type { Tensor } from "../tensor.js";
import { concat } from "./join.js";
import { slice } from "./view.js";

/**
 * Writes `update` into `cache` at `position`, in place.
 * @param cache - [batch, capacity, ...rest], dense  @param update - [batch, length, ...rest]
 * @param position - first slot to write; position + length is at most capacity
 */
export function kvAppend(cache: Tensor, update: Tensor, position: number): void {
  const op = "kvAppend";
  refuseOnTape(op);
  const backend = commonBackend(op, [cache, update]);
  const dtype = commonDType(op, [cache, update]) as FloatDType;
  const [batch, capacity] = cache.shape as [number, number];
  const length = update.shape[1] ?? 0;
  const rest = cache.shape.slice(2);
  if (
    update.shape.length !== cache.shape.length ||
    update.shape[0] !== batch ||
    rest.some((n, i) => n !== update.shape[i + 2])
  )
    throw new ShapeError(`${op}: update ${show(update.shape)} does not fit the cache ${show(cache.shape)}`);
  if (!Number.isInteger(position) || position < 0 || position + length > capacity)
    throw new InvalidArgumentError(`${op}: ${length} slots from ${position} on do not fit a capacity of ${capacity}`, {
      hint: "make the cache larger before appending",
    });
  const descriptor = { batch, capacity, length, width: sizeOf(rest), position, dtype };
  const kernel = cache.isDense ? kernelFor(backend, op, descriptor) : undefined;
  reportDispatch(op, "forward", kernel === undefined ? "composed" : "fused");
  if (kernel !== undefined) {
    withNamedOperands(["cache", "update"], [cache, update], kernel.strided, (operands) =>
      kernel.op.forward(operands, descriptor, { save: false }),
    );
    return;
  }
  scope(() => cache.assign(concat([slice(cache, 1, 0, position), update, slice(cache, 1, position + length)], 1)));
}
