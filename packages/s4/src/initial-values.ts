import type { Initialiser } from "@mamba-ts/nn";
import { inverseSoftplus, nplr, s4dInit, toInterleaved } from "@mamba-ts/ssm";
import type { ResolvedS4LayerConfig } from "./config.js";

/** First values of a kernel's parameters, in state-spaces/s4's shapes and its sign: A = -f(A_real) - i A_imag. */
export function initialValues(config: ResolvedS4LayerConfig): {
  readonly [name in "A_real" | "A_imag" | "B" | "P" | "invDt" | "C"]: Initialiser;
} {
  const { mode, init, dState, dtMin, dtMax, dtTransform, realTransform } = config;
  // nplr keeps the modes below the real axis, which is the sign wanted here; s4dInit those above.
  const low = mode === "dplr" ? nplr("legs", dState) : undefined;
  const plain = low ?? s4dInit(init, dState);
  const sign = mode === "dplr" ? 1 : -1;
  const A = { re: plain.A.re, im: plain.A.im.map((v) => sign * v) };
  // The reference keeps B of LegS within 2, which tames its largest modes.
  const clip = (v: number): number => Math.max(-2, Math.min(2, v));
  const B = toInterleaved({ re: plain.B.re.map(clip), im: plain.B.im.map((v) => clip(sign * v)) });
  const P = low === undefined ? new Float64Array(dState) : toInterleaved(low.P[0]!);
  const inverse = { exp: Math.log, softplus: inverseSoftplus, none: (v: number) => v };
  const repeat =
    (values: Float64Array): Initialiser =>
    (_, shape) => {
      const size = shape.reduce((a, b) => a * b, 1);
      return Float64Array.from({ length: size }, (_, i) => values[i % values.length]!);
    };
  return {
    A_real: repeat(A.re.map((v) => inverse[realTransform](-v))),
    // A frequency of exactly 0 would never leave it: its gradient is 0.
    A_imag: repeat(A.im.map((v) => (v === 0 ? 1e-4 : -v))),
    B: repeat(B),
    P: repeat(P),
    // Complex normal of variance 1.
    C: (rng, shape) => rng.normal(shape.reduce((a, b) => a * b, 1)).map((v) => v * Math.SQRT1_2),
    invDt: (rng, shape) => {
      const [low, high] = [Math.log(dtMin), Math.log(dtMax)];
      const size = shape.reduce((a, b) => a * b, 1);
      return rng.uniform(size).map((u) => inverse[dtTransform](Math.exp(low + u * (high - low))));
    },
  };
}
