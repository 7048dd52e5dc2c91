import { type Backend, BackendMismatchError, DTypeError, InvalidArgumentError, ShapeError } from "@mamba-ts/backend";
import { fromHost, Tensor } from "@mamba-ts/tensor";

/** Token ids [batch, length]: rows of equal length, or an int32 tensor. */
export type TokenInput = Tensor | readonly ArrayLike<number>[];

/** Ids as an int32 tensor [batch, length]; rows are checked against the vocabulary. */
export function tokenTensor(backend: Backend, input: TokenInput, vocabSize: number): Tensor {
  if (input instanceof Tensor) {
    if (input.shape.length !== 2) throw new ShapeError(`tokens: [${input.shape.join(", ")}] is not [batch, length]`);
    if (input.dtype !== "int32") throw new DTypeError(`tokens: ${input.dtype}, not int32`);
    if (input.backend !== backend)
      throw new BackendMismatchError(`tokens: on backend ${input.backend.name}, the model is on ${backend.name}`);
    return input;
  }
  const batch = input.length;
  const length = input[0]?.length ?? 0;
  const ids = new Int32Array(batch * length);
  input.forEach((row, b) => {
    if (row.length !== length)
      throw new ShapeError(`tokens: row ${b} has ${row.length} tokens, row 0 has ${length}`, {
        hint: "pad with segment id -1 to one length",
      });
    for (let t = 0; t < length; t++) {
      const id = row[t]!;
      if (!Number.isInteger(id) || id < 0 || id >= vocabSize)
        throw new InvalidArgumentError(
          `tokens: ${id} at row ${b}, position ${t} is not in a vocabulary of ${vocabSize}`,
        );
      ids[b * length + t] = id;
    }
  });
  return fromHost(backend, ids, [batch, length], "int32");
}
