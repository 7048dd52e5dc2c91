import { cast, mul, scope, sum } from "@mamba-ts/tensor";
import type { Module } from "./module.js";

/** Names of the parameters that hold NaN or infinity, in order. Reads one number per parameter back: for finding out what went wrong. */
export async function nonFiniteParameters(module: Module): Promise<string[]> {
  const found: string[] = [];
  for (const [name, { value }] of module.namedParameters()) {
    // Finite numbers times zero add up to zero.
    using total = scope(() => sum(mul(cast(value, "float32"), 0)));
    if ((await total.item()) !== 0) found.push(name);
  }
  return found;
}
