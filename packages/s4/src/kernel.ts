import { UnsupportedError } from "@mamba-ts/backend";
import { Module, Parameter } from "@mamba-ts/nn";
import {
  add,
  exp,
  expand,
  keep,
  matmul,
  mul,
  neg,
  permute,
  reshape,
  scope,
  slice,
  softplus,
  sum,
  type Tensor,
  tapeIsOpen,
  unsqueeze,
} from "@mamba-ts/tensor";
import {
  type ComplexTensor,
  complexAdd,
  complexMul,
  fromPairs,
  parts,
  stackParts,
  unstackParts,
} from "./complex-tensor.js";
import type { ResolvedS4LayerConfig } from "./config.js";
import { type DiagonalStep, discretizeModes, inputToState, lastPower, powerSum, powerTable } from "./diagonal.js";
import { scanModes } from "./diagonal-scan.js";
import {
  cauchyKernel,
  type DenseStep,
  type DplrModes,
  denseStep,
  pairsOf,
  rowsOf,
  timesPowerPlusOne,
  untruncated,
} from "./dplr.js";
import { initialValues } from "./initial-values.js";
import { denseResponse, denseStateAfter } from "./krylov.js";

/** The recurrence of a kernel, made once and used at every step. */
export type KernelStep = { readonly rows: Tensor } & (
  | ({ readonly form: "diagonal" } & DiagonalStep)
  | ({ readonly form: "dense" } & DenseStep)
);

/** Systems of dModel heads and their kernels. Parameters have state-spaces/s4's names and shapes. */
export class S4Kernel extends Module {
  /** [channels, dModel, modes, 2]; of `dplr` it is C (I - A^kernelLength), as in the reference. */
  readonly C: Parameter;
  /** [nSsm, modes] */
  readonly A_real: Parameter;
  readonly A_imag: Parameter;
  /** [1, nSsm, modes, 2] */
  readonly B: Parameter;
  /** [1, nSsm, modes, 2], of `dplr` only. */
  readonly P?: Parameter;
  /** [dModel, 1] */
  readonly invDt: Parameter;
  /** The length at which C is truncated (`l_kernel` in checkpoints); 0: not at all. */
  kernelLength = 0;
  readonly #config: ResolvedS4LayerConfig;

  constructor(config: ResolvedS4LayerConfig) {
    super();
    const { dModel, dState, nSsm, channels, bidirectional, mode } = config;
    const modes = dState / 2;
    const init = initialValues(config);
    const state = { decay: false, keepFloat32: true };
    this.C = new Parameter([channels * (bidirectional ? 2 : 1), dModel, modes, 2], { init: init.C, keepFloat32: true });
    this.invDt = new Parameter([dModel, 1], { init: init.invDt, ...state });
    this.A_real = new Parameter([nSsm, modes], { init: init.A_real, ...state });
    this.A_imag = new Parameter([nSsm, modes], { init: init.A_imag, ...state });
    this.B = new Parameter([1, nSsm, modes, 2], { init: init.B, ...state });
    if (mode === "dplr") this.P = new Parameter([1, nSsm, modes, 2], { init: init.P, ...state });
    this.#config = config;
  }

  /** A, B, P of every head, C of every channel and head. */
  modes(): DplrModes {
    const { dModel, nSsm, realTransform, dtTransform } = this.#config;
    const transforms = { exp, softplus, none: (t: Tensor) => t };
    const repeat = (t: Tensor): Tensor => {
      const rest = t.shape.slice(1);
      return nSsm === dModel ? t : reshape(expand(unsqueeze(t, 0), [dModel / nSsm, ...t.shape]), [dModel, ...rest]);
    };
    const pairs = (p: Parameter): ComplexTensor => {
      const [, n, modes] = p.shape as [number, number, number];
      return parts(fromPairs(p.value), (t) => repeat(reshape(t, [n, modes])));
    };
    const B = pairs(this.B);
    return {
      A: { re: repeat(neg(transforms[realTransform](this.A_real.value))), im: repeat(neg(this.A_imag.value)) },
      B,
      P: this.P === undefined ? B : pairs(this.P),
      C: fromPairs(this.C.value),
      dt: transforms[dtTransform](this.invDt.value),
    };
  }

  #diagonalStep({ A, B, dt }: DplrModes): DiagonalStep {
    return discretizeModes(this.#config.discretization, A, B, dt);
  }

  /** The convolution kernels, [channels, dModel, length]. */
  kernel(length: number): Tensor {
    if (this.P !== undefined) {
      this.ensureLength(length);
      return slice(cauchyKernel(this.modes(), this.kernelLength), 2, 0, length);
    }
    const modes = this.modes();
    const { w, b } = this.#diagonalStep(modes);
    const weights = parts(complexMul(modes.C, b), (t) => permute(t, [1, 0, 2])); // [dModel, channels, modes]
    return permute(powerSum(powerTable(w, length), weights), [1, 0, 2]);
  }

  /** Makes `dplr` kernels of this length possible: C is truncated at first, and then doubled as often as it takes. */
  ensureLength(length: number): void {
    if (this.P === undefined || length <= this.kernelLength) return;
    if (tapeIsOpen())
      throw new UnsupportedError(`S4: a sequence of ${length} is longer than the kernel, ${this.kernelLength}`, {
        hint: "call setKernelLength before training: it rewrites C, which cannot be done while gradients are recorded",
      });
    while (this.kernelLength < length) {
      const first = this.kernelLength === 0;
      const at = first ? length : this.kernelLength;
      this.C.value = keep(
        scope(() => {
          const modes = this.modes();
          return pairsOf(timesPowerPlusOne(rowsOf(modes.C), denseStep(modes).A, at, first ? -1 : 1));
        }),
      );
      this.kernelLength = first ? length : 2 * this.kernelLength;
    }
  }

  /** The recurrence with the same parameters. */
  step(): KernelStep {
    const modes = this.modes();
    const rows = rowsOf(modes.C);
    if (this.P === undefined) return { form: "diagonal", rows, ...this.#diagonalStep(modes) };
    const dense = denseStep(modes);
    return {
      form: "dense",
      ...dense,
      rows: this.kernelLength === 0 ? rows : untruncated(rows, dense.A, this.kernelLength),
    };
  }

  /**
   * What a state [batch, dModel, dState] adds to `length` outputs after it, and the state after an input [batch, dModel, length]:
   * how a convolution goes on from another.
   */
  carry(
    step: KernelStep,
    u: Tensor,
    state: Tensor | undefined,
  ): { readonly response?: Tensor; readonly state: Tensor } {
    const [batch, heads, length] = u.shape as [number, number, number];
    if (step.form === "dense") {
      const after = denseStateAfter(step, u, state);
      return state === undefined
        ? { state: after }
        : { response: denseResponse(step, step.rows, state, length), state: after };
    }
    const table = powerTable(step.w, length);
    const driven = complexMul(inputToState(table, u), step.b);
    if (state === undefined) return { state: stackParts(driven, 2) };
    const x = unstackParts(state); // [batch, dModel, modes]
    const after = complexAdd(driven, complexMul(x, lastPower(table)));
    // C z x, every channel of every sequence: rows of one sum of powers.
    const C = this.modes().C;
    const channels = C.re.shape[0]!;
    const zx = complexAdd(x, complexMul(x, step.w));
    const weights = complexMul(
      parts(zx, (t) => unsqueeze(t, 1)),
      parts(C, (t) => unsqueeze(t, 0)),
    ); // [batch, channels, dModel, modes]
    const flat = parts(weights, (t) => reshape(permute(t, [2, 0, 1, 3]), [heads, batch * channels, t.shape[3]!]));
    const sums = reshape(powerSum(table, flat), [heads, batch, channels, length]);
    return { response: permute(sums, [1, 2, 0, 3]), state: stackParts(after, 2) };
  }

  /** A step per sample (S4D with zero-order hold): see `scanModes`. */
  scan(u: Tensor, deltas: Tensor, state: Tensor | undefined): { readonly y: Tensor; readonly state: Tensor } {
    const { mode, discretization } = this.#config;
    if (mode !== "diag" || discretization !== "zoh")
      throw new UnsupportedError(
        `S4: a step per sample needs a diagonal system and zero-order hold, not ${mode}, ${discretization}`,
        {
          hint: 'mode: "diag", discretization: "zoh"; @mamba-ts/ssm\'s sampledRecurrence takes any system',
        },
      );
    return scanModes({ ...this.modes(), u, deltas, state });
  }
}

/**
 * One step of the recurrence.
 * @param u - [batch, heads]  @param state - [batch, heads, dState]  @returns y [batch, channels, heads], and the state
 */
export function advance(step: KernelStep, u: Tensor, state: Tensor): { readonly y: Tensor; readonly state: Tensor } {
  const next =
    step.form === "dense"
      ? add(
          permute(matmul(permute(state, [1, 0, 2]), step.A, { transB: true }), [1, 0, 2]),
          mul(unsqueeze(u, 2), step.B),
        )
      : advanceModes(step, u, state);
  return { y: sum(mul(unsqueeze(next, 1), step.rows), 3), state: next };
}

function advanceModes({ w, b }: DiagonalStep, u: Tensor, state: Tensor): Tensor {
  const x = unstackParts(state);
  const driven = parts(b, (t) => mul(unsqueeze(u, 2), t));
  return stackParts(complexAdd(complexAdd(x, complexMul(x, w)), driven), 2);
}
