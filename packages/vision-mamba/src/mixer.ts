import { type ResolvedMambaConfig, SelectiveSsm } from "@mamba-ts/mamba";
import { constant, fanInUniform, Linear, Module, Parameter, s4dRealInit } from "@mamba-ts/nn";
import { add, exp, flip, mul, neg, selectiveScan, split, type Tensor } from "@mamba-ts/tensor";
import type { ResolvedVisionMambaConfig } from "./config.js";

/** What the way back is called in checkpoints: `_b` after the name of the part. */
function backwardName(name: string): string {
  return name === "A_log" ? "A_b_log" : name.replace(/^(\w+)/, "$1_b");
}

/**
 * A Mamba mixer that reads its tokens in both directions (section 3.3, Alg. 1): one projection in, one out, and between them a selective
 * state space per direction.
 */
export class VisionMixer extends Module {
  readonly inProj: Linear;
  readonly ssm: SelectiveSsm;
  /** v2: the way back. */
  readonly ssmB?: SelectiveSsm;
  /** v1: all that the way back has of its own. */
  readonly A_bLog?: Parameter;
  readonly outProj: Linear;
  readonly #config: ResolvedMambaConfig;
  readonly #divide: boolean;

  constructor({ mamba, bimamba, divideOut }: ResolvedVisionMambaConfig) {
    super();
    const { dModel, dInner, dState, nLayer } = mamba;
    this.inProj = new Linear(dModel, 2 * dInner);
    this.ssm = new SelectiveSsm(mamba);
    // Upstream marks only the forward bias of the step as initialised, and then sets this one to 0.
    if (bimamba === "v2") this.ssmB = new SelectiveSsm(mamba, { dtBiasInit: constant(0) });
    if (bimamba === "v1")
      this.A_bLog = new Parameter([dInner, dState], { init: s4dRealInit, decay: false, keepFloat32: true });
    this.outProj = new Linear(dInner, dModel, { init: fanInUniform(dInner, 1 / Math.sqrt(Math.max(1, nLayer))) });
    this.#config = mamba;
    this.#divide = bimamba === "v2" && divideOut;
  }

  override *namedParameters(prefix = "", seen: Set<Parameter> = new Set()): Generator<readonly [string, Parameter]> {
    for (const [name, parameter] of super.namedParameters("", seen))
      yield [prefix + (name.startsWith("back.") ? backwardName(name.slice("back.".length)) : name), parameter];
  }

  /** In checkpoints the parameters of both directions and of the mixer lie side by side. */
  protected override prefixOf(key: string): string {
    return key === "ssm" ? "" : key === "ssmB" ? "back." : super.prefixOf(key);
  }

  /** @param h - [batch, tokens, dModel]  @returns the same shape */
  forward(h: Tensor): Tensor {
    const { dInner } = this.#config;
    const [x, z] = split(this.inProj.forward(h), [dInner, dInner]) as [Tensor, Tensor]; // [batch, tokens, dInner]
    const [there, back] = this.#scan(x, z);
    const both = back === undefined ? there : add(there, flip(back, 1));
    return this.outProj.forward(this.#divide ? mul(both, 0.5) : both); // [batch, tokens, dModel]
  }

  /** Both directions' outputs, the second one last token first. */
  #scan(x: Tensor, z: Tensor): [Tensor, Tensor | undefined] {
    if (this.A_bLog !== undefined) {
      const { scan } = this.ssm.project(x, undefined, undefined);
      const { x: u, delta, B, C, ...rest } = scan;
      const turned = { x: flip(u, 1), delta: flip(delta, 1), B: flip(B, 1), C: flip(C, 1), z: flip(z, 1) };
      const A = neg(exp(this.A_bLog.value));
      return [selectiveScan({ ...scan, z }).y, selectiveScan({ ...rest, ...turned, A }).y];
    }
    const there = this.ssm.forward(x, z, {}, undefined).y;
    return [there, this.ssmB?.forward(flip(x, 1), flip(z, 1), {}, undefined).y];
  }
}
