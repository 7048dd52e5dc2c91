import {
  CausalConv1d,
  constant,
  deltaBiasInit,
  fanInUniform,
  type Initialiser,
  Linear,
  Module,
  Parameter,
  RmsNorm,
  s4dRealInit,
  uniform,
} from "@mamba-ts/nn";
import {
  exp,
  forget,
  linear,
  neg,
  rmsNorm,
  type SelectiveScanArguments,
  selectiveScan,
  split,
  type Tensor,
} from "@mamba-ts/tensor";
import type { ResolvedMambaConfig } from "./config.js";
import type { LayerState } from "./state.js";

/** What the convolution and the projections make for a scan. */
export interface ScanInputs {
  readonly scan: Omit<SelectiveScanArguments, "z" | "initialState" | "marks">;
  /** [batch, dConv - 1, dInner]: the convolution's state after the last token. */
  readonly conv: Tensor;
  /** What is made of x on the way and cheaply made again: the convolution's output, dt B C, and delta. */
  readonly made: readonly Tensor[];
}

/** The selective state space itself: causal convolution, input-dependent delta, B and C, scan (section 3.2, Alg. 2). */
export class SelectiveSsm extends Module {
  readonly conv1d: CausalConv1d;
  readonly xProj: Linear;
  readonly dtProj: Linear;
  readonly A_log: Parameter;
  readonly D: Parameter;
  readonly dtLayernorm?: RmsNorm;
  readonly bLayernorm?: RmsNorm;
  readonly cLayernorm?: RmsNorm;
  readonly #config: ResolvedMambaConfig;

  /** @param options - first values of delta's bias; spread over [dtMin, dtMax] by default */
  constructor(config: ResolvedMambaConfig, { dtBiasInit = deltaBiasInit(config) }: { dtBiasInit?: Initialiser } = {}) {
    super();
    const { dInner, dState, dConv, dtRank, convBias, dtInit, dtScale, innerNorm, innerNormEps } = config;
    const dtStd = dtScale / Math.sqrt(dtRank);
    this.A_log = new Parameter([dInner, dState], { init: s4dRealInit, decay: false, keepFloat32: true });
    this.D = new Parameter([dInner], { init: constant(1), decay: false, keepFloat32: true });
    this.conv1d = new CausalConv1d(dInner, dConv, { bias: convBias, activation: "silu" });
    this.xProj = new Linear(dInner, dtRank + 2 * dState);
    this.dtProj = new Linear(dtRank, dInner, {
      bias: true,
      init: dtInit === "random" ? uniform(dtStd) : constant(dtStd),
      biasInit: dtBiasInit,
    });
    if (innerNorm === "weighted") {
      this.dtLayernorm = new RmsNorm(dtRank, innerNormEps);
      this.bLayernorm = new RmsNorm(dState, innerNormEps);
      this.cLayernorm = new RmsNorm(dState, innerNormEps);
    }
    this.#config = config;
  }

  /**
   * The convolution, and delta, B and C made from what comes out of it: all that a scan takes but z, the initial state and the marks.
   * @param x - [batch, length, dInner]
   * @param conv - [batch, dConv - 1, dInner]: what the convolution remembers
   */
  project(x: Tensor, conv: Tensor | undefined, marks: Tensor | undefined): ScanInputs {
    const { dtRank, dState, innerNorm, innerNormEps } = this.#config;
    const { y: u, finalState } = this.conv1d.forward(x, conv, marks); // [batch, length, dInner]
    const projected = this.xProj.forward(u); // [batch, length, dtRank + 2 dState]
    let [dt, B, C] = split(projected, [dtRank, dState, dState]) as [Tensor, Tensor, Tensor]; // [batch, length, *]
    if (innerNorm !== "none") {
      const norm = (t: Tensor, by: RmsNorm | undefined): Tensor =>
        rmsNorm({ x: t, weight: by?.weight.value, eps: innerNormEps }).y;
      [dt, B, C] = [norm(dt, this.dtLayernorm), norm(B, this.bLayernorm), norm(C, this.cLayernorm)];
    }
    const delta = linear(dt, this.dtProj.weight.value); // [batch, length, dInner]
    const A = neg(exp(this.A_log.value)); // [dInner, dState], A < 0
    const scan = { x: u, delta, A, B, C, D: this.D.value, deltaBias: this.dtProj.bias!.value, softplus: true };
    return { scan, conv: finalState, made: [u, projected, delta] };
  }

  /**
   * @param x, z - [batch, length, dInner]: the branch that is scanned, and the one that gates it
   * @param isForgetful - the gradient makes what the scan reads again, instead of keeping it
   * @returns y [batch, length, dInner] and the state after the last token
   */
  forward(
    x: Tensor,
    z: Tensor | undefined,
    state: Partial<LayerState>,
    marks: Tensor | undefined,
    isForgetful = false,
  ): { readonly y: Tensor; readonly state: LayerState } {
    const { scan, conv, made } = this.project(x, state.conv, marks);
    const { y, finalState: ssm } = selectiveScan({ ...scan, z, initialState: state.ssm, marks });
    if (isForgetful) forget(made, [x, state.conv, marks], () => this.project(x, state.conv, marks).made);
    return { y, state: { conv, ssm } };
  }
}

/** A Mamba block without its norm (fig. 3): projection into branch and gate, selective state space, projection out. */
export class MambaMixer extends Module {
  readonly inProj: Linear;
  readonly ssm: SelectiveSsm;
  readonly outProj: Linear;
  readonly #dInner: number;

  constructor(config: ResolvedMambaConfig) {
    super();
    const { dModel, dInner, bias, nLayer } = config;
    this.inProj = new Linear(dModel, 2 * dInner, { bias });
    this.ssm = new SelectiveSsm(config);
    // Every layer adds to the residual stream once: scaled so that the sum keeps its size (GPT-2's rule, as upstream).
    this.outProj = new Linear(dInner, dModel, { bias, init: fanInUniform(dInner, 1 / Math.sqrt(Math.max(1, nLayer))) });
    this.#dInner = dInner;
  }

  /** In checkpoints the mixer's and its state space's parameters lie side by side. */
  protected override prefixOf(key: string): string {
    return key === "ssm" ? "" : super.prefixOf(key);
  }

  /**
   * @param h - [batch, length, dModel]
   * @param isForgetful - see `SelectiveSsm.forward`
   * @returns the same shape, and the state
   */
  forward(
    h: Tensor,
    state: Partial<LayerState>,
    marks: Tensor | undefined,
    isForgetful = false,
  ): { readonly out: Tensor; readonly state: LayerState } {
    const [x, z] = split(this.inProj.forward(h), [this.#dInner, this.#dInner]) as [Tensor, Tensor]; // [batch, length, dInner]
    const { y, state: next } = this.ssm.forward(x, z, state, marks, isForgetful);
    return { out: this.outProj.forward(y), state: next }; // [batch, length, dModel]
  }
}
