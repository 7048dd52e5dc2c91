/**
 * Gradient of the selective scan (reverse of arXiv:2312.00752, Alg. 2). With gh the gradient of the state,
 *   gh[t] = C[t] gy[t] + exp(delta[t+1] A) gh[t+1]
 *   gC = sum_c gy h, gB = sum_c gh delta x, gx = D gy + delta sum_n gh B,
 *   gdelta = sum_n gh (A a h[t-1] + B x), gA = sum_t gh delta a h[t-1], with a = exp(delta A).
 * The states of one stretch between two checkpoints are recomputed at a time.
 */
import type { SelectiveScanDescriptor } from "@mamba-ts/backend";
import { sigmoid, siluGradient, softplusGradient } from "../functions.js";
import type { Floats } from "../values.js";
import { CHECKPOINT, markOf, type ScanInputs, stepSizes } from "./selective-scan-shared.js";

/** One stretch of tokens, run again. */
export class Stretch {
  /** [tokens + 1, dInner, dState]: the states after each token, preceded by the one before the first. */
  readonly h: Float64Array;
  /** exp(delta A) [tokens, dInner, dState] */
  readonly decay: Float64Array;
  /** [tokens, dInner] */
  readonly steps: Float64Array;
  readonly #states: number;

  constructor(readonly d: SelectiveScanDescriptor) {
    const tokens = Math.min(CHECKPOINT, d.length);
    this.#states = d.dInner * d.dState;
    this.h = new Float64Array((tokens + 1) * this.#states);
    this.decay = new Float64Array(tokens * this.#states);
    this.steps = new Float64Array(tokens * d.dInner);
  }

  /** Tokens `first` to `end` (rows of the inputs) from the state `border` on. */
  run(inputs: ScanInputs, first: number, end: number, border: Floats): void {
    const { dInner } = this.d;
    this.h.set(border);
    for (let row = first; row < end; row++) {
      const at = row - first;
      const mark = markOf(inputs, row);
      if (mark < 0) {
        this.h.copyWithin((at + 1) * this.#states, at * this.#states, (at + 1) * this.#states);
        continue;
      }
      for (const rows of [inputs.x, inputs.delta, inputs.B]) rows.load(row);
      stepSizes(inputs, this.d, this.steps.subarray(at * dInner, (at + 1) * dInner));
      this.#advance(inputs, at, mark > 0);
    }
  }

  #advance({ A, x: { row: x }, B: { row: B } }: ScanInputs, at: number, restart: boolean): void {
    const { dInner, dState, groups } = this.d;
    const { h, decay, steps } = this;
    const perGroup = dInner / groups;
    const states = this.#states;
    let before = at * states;
    for (let c = 0, i = 0; c < dInner; c++) {
      const group = Math.floor(c / perGroup) * dState;
      const step = steps[at * dInner + c]!;
      const dx = step * x[c]!;
      for (let n = group; n < group + dState; n++, i++, before++) {
        const a = Math.exp(step * A[i]!);
        decay[before] = a;
        h[before + states] = a * (restart ? 0 : h[before]!) + dx * B[n]!;
      }
    }
  }
}

/** Gradients of one token's rows, and the sums over all tokens, in doubles. */
export class Gradients {
  readonly x: Float64Array;
  readonly delta: Float64Array;
  readonly z: Float64Array;
  readonly B: Float64Array;
  readonly C: Float64Array;
  readonly A: Float64Array;
  readonly D: Float64Array;
  readonly deltaBias: Float64Array;
  /** Of the state after the token, as far as later tokens see it. */
  readonly h: Float64Array;

  constructor({ dInner, dState, groups }: SelectiveScanDescriptor) {
    [this.x, this.delta, this.z, this.D, this.deltaBias] = [0, 0, 0, 0, 0].map(() => new Float64Array(dInner)) as [
      Float64Array,
      Float64Array,
      Float64Array,
      Float64Array,
      Float64Array,
    ];
    [this.B, this.C] = [new Float64Array(groups * dState), new Float64Array(groups * dState)];
    [this.A, this.h] = [new Float64Array(dInner * dState), new Float64Array(dInner * dState)];
  }

  /** Token `at` of the stretch, its rows loaded; `gy` is its output's gradient, made that of C . h + D x by taking the gate off. */
  add(inputs: ScanInputs, stretch: Stretch, at: number, gy: Float64Array, restart: boolean): void {
    this.#throughGate(inputs, stretch, at, gy);
    this.#throughState(inputs, stretch, at, gy, restart);
    const {
      deltaBias,
      delta: { row: delta },
    } = inputs;
    if (stretch.d.softplus)
      for (let c = 0; c < gy.length; c++)
        this.delta[c] =
          this.delta[c]! * softplusGradient(deltaBias === undefined ? delta[c]! : delta[c]! + deltaBias[c]!);
    for (let c = 0; c < gy.length; c++) this.deltaBias[c] = this.deltaBias[c]! + this.delta[c]!;
  }

  #throughGate(
    { x: { row: x }, C: { row: C }, D, z }: ScanInputs,
    { h, d }: Stretch,
    at: number,
    gy: Float64Array,
  ): void {
    if (z === undefined) return;
    const { dInner, dState, groups } = d;
    const perGroup = dInner / groups;
    for (let c = 0, i = (at + 1) * dInner * dState; c < dInner; c++) {
      const group = Math.floor(c / perGroup) * dState;
      let y = D === undefined ? 0 : D[c]! * x[c]!;
      for (let n = group; n < group + dState; n++, i++) y += C[n]! * h[i]!;
      const gate = z.row[c]!;
      const s = sigmoid(gate);
      this.z[c] = gy[c]! * y * siluGradient(gate, s);
      gy[c] = gy[c]! * (gate * s);
    }
  }

  #throughState(
    { x: { row: x }, B: { row: B }, C: { row: C }, A, D }: ScanInputs,
    { h, decay, steps, d }: Stretch,
    at: number,
    gy: Float64Array,
    restart: boolean,
  ): void {
    const { dInner, dState, groups } = d;
    const perGroup = dInner / groups;
    const states = dInner * dState;
    const { h: gh, A: gA, B: gB, C: gC } = this;
    gB.fill(0);
    gC.fill(0);
    let before = at * states;
    for (let c = 0, i = 0; c < dInner; c++) {
      const group = Math.floor(c / perGroup) * dState;
      const step = steps[at * dInner + c]!;
      const xc = x[c]!;
      const gyc = gy[c]!;
      let gxc = 0;
      let gStep = 0;
      for (let n = group; n < group + dState; n++, i++, before++) {
        const g = gh[i]! + C[n]! * gyc;
        const gs = g * step;
        const past = restart ? 0 : decay[before]! * h[before]!;
        gC[n] = gC[n]! + gyc * h[before + states]!;
        gB[n] = gB[n]! + gs * xc;
        gxc += g * B[n]!;
        gStep += g * (A[i]! * past + B[n]! * xc);
        gA[i] = gA[i]! + gs * past;
        gh[i] = restart ? 0 : decay[before]! * g;
      }
      this.x[c] = step * gxc + (D === undefined ? 0 : D[c]! * gyc);
      this.delta[c] = gStep;
      this.D[c] = this.D[c]! + gyc * xc;
    }
  }
}
