import { isMambaError, NonFiniteError } from "@mamba-ts/backend";
import { type Module, nonFiniteParameters } from "@mamba-ts/nn";
import { mul, scope, sum, type Tensor } from "@mamba-ts/tensor";

/** Runs something on a model; if a number turns out not to be finite and the weights are why, the error names them. */
export async function namingWeights<T>(model: Module, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    if (!isMambaError(error, "non-finite")) throw error;
    const names = await nonFiniteParameters(model);
    if (names.length === 0) throw error;
    const more = names.length > 3 ? ` and ${names.length - 3} more` : "";
    const what = error.message.split("\n")[0];
    throw new NonFiniteError(`${what}; NaN or infinity in tensor ${names.slice(0, 3).join(", ")}${more}`, {
      cause: error,
    });
  }
}

/** Throws NonFiniteError unless every element is finite. */
export async function expectFinite(what: string, tensor: Tensor): Promise<void> {
  using total = scope(() => sum(mul(tensor, 0)));
  if ((await total.item()) !== 0) throw new NonFiniteError(`${what} holds NaN or infinity`);
}
