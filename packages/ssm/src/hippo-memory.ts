import { discretizeDense } from "./discretize-system.js";
import { expectSizes, SsmError } from "./errors.js";
import { type HippoMeasure, hippo, hippoBasis } from "./hippo.js";
import { dotProduct, matVec } from "./matrix.js";
import { expectFinite, missingSamples } from "./system.js";

/**
 * The state after a signal that is constant between samples: sample k holds from k delta to (k + 1) delta. Exact: the windows and
 * `lagt` by zero-order hold; `legs`, whose equation t c' = A c + B u has constant coefficients in log t, by zero-order hold with the
 * steps log((k + 1) / k), from the state of a constant past after the first sample.
 * @param samples - [length]; no sample leaves a state of zeros
 * @param delta - length of a sample, positive; `legs` does not depend on it
 * @returns [n]
 */
export function hippoMemory(measure: HippoMeasure, n: number, samples: Float64Array, delta = 1): Float64Array {
  expectSizes("hippoMemory", { n });
  expectFinite("hippoMemory", "samples", samples, missingSamples);
  if (!(delta > 0 && Number.isFinite(delta)))
    throw new SsmError("invalid-argument", `hippoMemory: sample length ${delta} is not a positive number`);
  const { A, B } = hippo(measure, n);
  const system = { form: "dense", A, B, C: new Float64Array(n) } as const;
  let state: Float64Array = new Float64Array(n);
  let step = discretizeDense("zoh", system, measure === "legs" ? 1 : delta);
  for (const [k, u] of samples.entries()) {
    if (measure === "legs" && k === 0) {
      state[0] = u;
      continue;
    }
    if (measure === "legs") step = discretizeDense("zoh", system, Math.log((k + 1) / k));
    state = matVec(step.A, state).map((v, i) => v + step.B[i]! * u);
  }
  return state;
}

/**
 * The remembered signal at the given ages: sum_i c[i] basis_i(age).
 * @param state - [n]  @param ages - as in `hippoBasis`  @returns [ages.length]
 */
export function hippoReconstruct(measure: HippoMeasure, state: Float64Array, ages: ArrayLike<number>): Float64Array {
  return Float64Array.from(ages, (age) => dotProduct(state, hippoBasis(measure, state.length, age)));
}

/**
 * Mean square error of the `legs` reconstruction over all of the past, as theory has it: the basis is orthonormal, so that what is lost is
 * the signal's mean square less the state's sum of squares (Parseval).
 * @param meanSquare - of the signal over its past
 */
export function legsError(meanSquare: number, state: Float64Array): number {
  return Math.max(0, meanSquare - dotProduct(state, state));
}
