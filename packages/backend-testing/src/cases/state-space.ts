import { causalConv1d as convOracle, selectiveScan as scanOracle } from "@mamba-ts/ssm";
import { causalConv1d, selectiveScan } from "@mamba-ts/tensor";
import type { HostTensors, OpCase } from "../case.js";

interface ScanOptions {
  readonly batch?: number;
  readonly length: number;
  readonly dInner?: number;
  readonly dState?: number;
  readonly groups?: number;
  readonly D?: boolean;
  readonly z?: boolean;
  readonly bias?: boolean;
  readonly softplus?: boolean;
  readonly initial?: boolean;
  readonly marks?: readonly number[];
}

function scanCase(o: ScanOptions): OpCase {
  const { batch = 2, length, dInner = 6, dState = 3, groups = 1 } = o;
  const flags = ["D", "z", "bias", "softplus", "initial", "marks"].filter((k) => o[k as keyof ScanOptions]);
  return {
    op: "selectiveScan",
    name: `selectiveScan batch ${batch} length ${length} dInner ${dInner} dState ${dState} groups ${groups} ${flags.join(" ")}`,
    inputs: (r) => ({
      x: r.normal([batch, length, dInner]),
      delta: o.softplus === true ? r.normal([batch, length, dInner]) : r.uniform([batch, length, dInner], 0.05, 0.8),
      A: r.uniform([dInner, dState], -2, -0.2),
      B: r.normal([batch, length, groups * dState]),
      C: r.normal([batch, length, groups * dState]),
      ...(o.D === true ? { D: r.normal([dInner]) } : {}),
      ...(o.z === true ? { z: r.normal([batch, length, dInner]) } : {}),
      ...(o.bias === true ? { deltaBias: r.uniform([dInner], 0.01, 0.2) } : {}),
      ...(o.initial === true ? { initialState: r.normal([batch, dInner, dState]) } : {}),
      ...(o.marks === undefined ? {} : { marks: { shape: [batch, length], data: Int32Array.from(o.marks) } }),
    }),
    run: (args) => ({
      ...selectiveScan({ ...(args as unknown as Parameters<typeof selectiveScan>[0]), softplus: o.softplus === true }),
    }),
    oracle: (args) => ({
      ...scanOracle({
        ...(args as never as Parameters<typeof scanOracle>[0]),
        batch,
        length,
        dInner,
        dState,
        groups,
        softplus: o.softplus === true,
      }),
    }),
  };
}

/** Padding holds NaN: it must neither show in the results nor reach a gradient. */
function poisonPadding(inputs: HostTensors, names: readonly string[], marks: Int32Array): HostTensors {
  return Object.fromEntries(
    Object.entries(inputs).map(([name, t]) => {
      if (!names.includes(name)) return [name, t];
      const data = Float64Array.from(t.data);
      const width = data.length / marks.length;
      marks.forEach((m, row) => {
        if (m < 0) data.fill(Number.NaN, row * width, (row + 1) * width);
      });
      // Central differences cannot step from NaN; its gradient is checked to be 0 by the other marked case.
      return [name, { ...t, data, grad: false }];
    }),
  );
}

function poisoned(base: OpCase, names: readonly string[], marks: readonly number[]): OpCase {
  return {
    ...base,
    name: `${base.name} with NaN in the padding`,
    inputs: (r) => poisonPadding(base.inputs(r), names, Int32Array.from(marks)),
  };
}

interface ConvOptions {
  readonly length: number;
  readonly width: number;
  readonly channels?: number;
  readonly bias?: boolean;
  readonly silu?: boolean;
  readonly initial?: boolean;
  readonly marks?: readonly number[];
}

function convCase({
  length,
  width,
  channels = 5,
  bias = false,
  silu = false,
  initial = false,
  marks,
}: ConvOptions): OpCase {
  const batch = 2;
  return {
    op: "causalConv1d",
    name: `causalConv1d length ${length} width ${width}${channels === 5 ? "" : ` channels ${channels}`}${bias ? " bias" : ""}${silu ? " silu" : ""}${initial ? " initial" : ""}${marks === undefined ? "" : " marks"}`,
    inputs: (r) => ({
      x: r.normal([batch, length, channels]),
      weight: r.normal([channels, width]),
      ...(bias ? { bias: r.normal([channels]) } : {}),
      ...(initial ? { initialState: r.normal([batch, width - 1, channels]) } : {}),
      ...(marks === undefined ? {} : { marks: { shape: [batch, length], data: Int32Array.from(marks) } }),
    }),
    run: (args) => ({
      ...causalConv1d({
        ...(args as unknown as Parameters<typeof causalConv1d>[0]),
        activation: silu ? "silu" : "none",
      }),
    }),
    oracle: (args) => ({
      ...convOracle({
        ...(args as never as Parameters<typeof convOracle>[0]),
        batch,
        length,
        channels,
        width,
        activation: silu ? "silu" : "none",
      }),
    }),
  };
}

// Left padding, padding inside, a start after padding, right padding; and a row with a start at once and one alone.
const marks9 = [-1, -1, 0, 0, -1, 0, 1, 0, -1, 1, 0, -1, 1, 1, 0, -1, -1, -1];
const full = { D: true, z: true, bias: true, softplus: true, initial: true } as const;

export const stateSpaceCases: readonly OpCase[] = [
  scanCase({ length: 1 }),
  scanCase({ length: 7 }),
  scanCase({ length: 9, D: true }),
  scanCase({ length: 9, z: true }),
  scanCase({ length: 9, bias: true, softplus: true }),
  scanCase({ length: 9, initial: true }),
  scanCase({ length: 9, ...full }),
  scanCase({ length: 5, ...full, dInner: 4, dState: 1 }),
  scanCase({ length: 5, ...full, groups: 2 }),
  scanCase({ length: 3, batch: 1, ...full, dInner: 1, dState: 17 }),
  scanCase({ length: 0, ...full }),
  scanCase({ length: 9, marks: marks9 }),
  scanCase({ length: 9, ...full, groups: 3, marks: marks9 }),
  poisoned(scanCase({ length: 9, ...full, marks: marks9 }), ["x", "delta", "B", "C", "z"], marks9),
  scanCase({ length: 131, batch: 1, dInner: 2, dState: 2, ...full }),
  convCase({ length: 1, width: 4 }),
  convCase({ length: 7, width: 4, bias: true, silu: true }),
  convCase({ length: 2, width: 4, bias: true, initial: true }),
  convCase({ length: 9, width: 3, silu: true, initial: true }),
  convCase({ length: 5, width: 1, bias: true }),
  convCase({ length: 5, width: 2 }),
  convCase({ length: 0, width: 4, initial: true }),
  convCase({ length: 67, width: 4, channels: 8, bias: true, silu: true, initial: true }),
  convCase({ length: 35, width: 3, channels: 12, silu: true }),
  convCase({ length: 33, width: 2, channels: 4, bias: true, initial: true }),
  convCase({ length: 2, width: 4, channels: 4, bias: true, initial: true }),
  convCase({ length: 9, width: 4, bias: true, silu: true, initial: true, marks: marks9 }),
  convCase({ length: 9, width: 2, marks: marks9 }),
  convCase({ length: 9, width: 1, bias: true, marks: marks9 }),
  poisoned(convCase({ length: 9, width: 4, bias: true, silu: true, initial: true, marks: marks9 }), ["x"], marks9),
];
