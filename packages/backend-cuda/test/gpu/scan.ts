/** The scan's kernels against the float64 oracle at sizes that the conformance suite is too slow for: chunks, groups, marks, 16-bit inputs. */
import type { FloatDType } from "@mamba-ts/backend";
import { selectiveScan as oracle, selectiveScanGradient } from "@mamba-ts/ssm";
import { cast, concat, fromHost, Rng, scope, selectiveScan, slice, type Tensor, vjp } from "@mamba-ts/tensor";
import { createBackend } from "../../src/index.js";

const nativeFolder = process.env["MAMBA_TS_CUDA_NATIVE"];
const backend = await createBackend({ poison: true, ...(nativeFolder === undefined ? {} : { nativeFolder }) });

interface Case {
  readonly dtype: FloatDType;
  readonly batch: number;
  readonly length: number;
  readonly dInner: number;
  readonly dState: number;
  readonly groups?: number;
  readonly bare?: boolean;
  readonly marks?: boolean;
  /** B and C are slices of one matrix whose rows are not aligned. */
  readonly sliced?: boolean;
}

/** Numbers of the cases to run, all without one: `node scan.mjs 0 2`. */
const wanted = process.argv.slice(2).map(Number);
const cases: Case[] = [
  { dtype: "float32", batch: 2, length: 77, dInner: 37, dState: 16 },
  { dtype: "float32", batch: 1, length: 1000, dInner: 5, dState: 16 },
  { dtype: "float32", batch: 2, length: 1537, dInner: 33, dState: 16, marks: true },
  { dtype: "float32", batch: 1, length: 1025, dInner: 24, dState: 3, groups: 2, marks: true },
  { dtype: "float32", batch: 1, length: 600, dInner: 9, dState: 31, bare: true },
  { dtype: "float32", batch: 1, length: 515, dInner: 6, dState: 100, groups: 3 },
  { dtype: "float32", batch: 1, length: 40, dInner: 3, dState: 200 },
  { dtype: "float32", batch: 1, length: 531, dInner: 12, dState: 256, groups: 2, marks: true },
  { dtype: "float32", batch: 1, length: 1300, dInner: 40, dState: 13, marks: true },
  { dtype: "float32", batch: 3, length: 129, dInner: 64, dState: 1 },
  { dtype: "bf16", batch: 1, length: 2100, dInner: 70, dState: 16, groups: 2, sliced: true },
  { dtype: "f16", batch: 2, length: 900, dInner: 33, dState: 7, marks: true, sliced: true },
  { dtype: "bf16", batch: 2, length: 1537, dInner: 33, dState: 16, marks: true },
  { dtype: "f16", batch: 1, length: 700, dInner: 40, dState: 16 },
  { dtype: "bf16", batch: 1, length: 31, dInner: 70, dState: 8 },
  // More blocks than multiprocessors: those that are left over are split, the others are not.
  { dtype: "float32", batch: 145, length: 1037, dInner: 3, dState: 16, marks: true },
];

function relative(got: ArrayLike<number>, want: ArrayLike<number>): number {
  let [difference, norm] = [0, 0];
  for (let i = 0; i < want.length; i++) {
    difference += (got[i]! - want[i]!) ** 2;
    norm += want[i]! ** 2;
  }
  return got.length === want.length ? Math.sqrt(difference / Math.max(norm, 1e-30)) : Number.NaN;
}

/** A tensor's elements, of whatever float dtype. */
async function floats(t: Tensor): Promise<Float64Array> {
  if (t.dtype === "float32") return Float64Array.from(await t.data());
  const wide = scope(() => cast(t, "float32"));
  const data = Float64Array.from(await wide.data());
  wide.dispose();
  return data;
}

let failed = 0;
for (const [i, c] of cases.entries()) {
  if (wanted.length > 0 && !wanted.includes(i)) continue;
  const { dtype, batch, length, dInner, dState, groups = 1, bare = false } = c;
  const rng = new Rng(11);
  const shapes: { [name: string]: [number[], (x: number) => number, FloatDType] } = {
    x: [[batch, length, dInner], (u: number) => u, dtype],
    delta: [[batch, length, dInner], (u: number) => (bare ? Math.abs(0.1 * u) : u - 1), dtype],
    A: [[dInner, dState], (u: number) => -0.5 - Math.abs(u), "float32"],
    B: [[batch, length, groups * dState], (u: number) => u, dtype],
    C: [[batch, length, groups * dState], (u: number) => u, dtype],
    ...(bare
      ? {}
      : {
          D: [[dInner], (u: number) => u, "float32"],
          z: [[batch, length, dInner], (u: number) => u, dtype],
          deltaBias: [[dInner], (u: number) => 0.3 * u, "float32"],
          initialState: [[batch, dInner, dState], (u: number) => u, "float32"],
        }),
  };
  const tensors: { [name: string]: Tensor } = {};
  for (const [name, [shape, f, type]] of Object.entries(shapes)) {
    const data = rng.normal(shape.reduce((a, b) => a * b, 1)).map(f);
    tensors[name] = scope(() => cast(fromHost(backend, data, shape, "float32"), type));
  }
  const marks =
    c.marks === true
      ? Int32Array.from({ length: batch * length }, (_, i) => (i % 97 === 13 ? 1 : i % 31 < 2 ? -1 : 0))
      : undefined;
  if (marks !== undefined) tensors["marks"] = fromHost(backend, marks, [batch, length], "int32");
  // The oracle gets the numbers as they were rounded.
  const host: { [name: string]: Float64Array } = {};
  for (const name of Object.keys(shapes)) host[name] = await floats(tensors[name]!);
  const args = { batch, length, dInner, dState, groups, softplus: !bare, marks, ...host } as never;
  const want = oracle(args);
  const [gy, gFinal] = [rng.normal(batch * length * dInner), rng.normal(batch * dInner * dState)];
  const gyT = scope(() => cast(fromHost(backend, gy, [batch, length, dInner], "float32"), dtype));
  const gFinalT = fromHost(backend, gFinal, [batch, dInner, dState], "float32");
  const gWant = selectiveScanGradient(args, await floats(gyT), Float64Array.from(gFinal, Math.fround)) as unknown as {
    [name: string]: Float64Array;
  };
  const names = Object.keys(shapes);
  const states = groups * dState;
  // The first column makes the rows odd.
  const given = (): { [name: string]: Tensor } => {
    if (c.sliced !== true) return tensors;
    const all = concat([slice(tensors["B"]!, 2, 0, 1), tensors["B"]!, tensors["C"]!], 2);
    return { ...tensors, B: slice(all, 2, 1, 1 + states), C: slice(all, 2, 1 + states, 1 + 2 * states) };
  };
  const all = () =>
    scope(() => {
      const run = () => selectiveScan({ ...given(), softplus: !bare } as never);
      const out = run();
      const found = vjp(
        () => {
          const r = run();
          return [r.y, r.finalState];
        },
        names.map((n) => tensors[n]!),
        [gyT, gFinalT],
      );
      return { ...out, grads: found.map((g) => g!) };
    });
  const { y, finalState, grads } = all();
  const again = all();
  const errors: { [name: string]: number } = {
    y: relative(await floats(y), want.y),
    finalState: relative(await finalState.data(), want.finalState),
  };
  for (const [i, name] of names.entries()) errors[`g${name}`] = relative(await floats(grads[i]!), gWant[name]!);
  // The same bits twice: a difference counts as an error.
  const twice = [[y, again.y], [finalState, again.finalState], ...grads.map((g, i) => [g, again.grads[i]!])];
  let different = 0;
  for (const [one, two] of twice) {
    const [a, b] = [await floats(one!), await floats(two!)];
    if (a.some((v, i) => !Object.is(v, b[i]))) different++;
  }
  errors["gSecondRun"] = different === 0 ? 0 : Number.NaN;
  const [forward, gradient] = dtype === "float32" ? [1e-5, 1e-4] : [4e-3, 1e-2];
  const bad = Object.entries(errors).filter(([name, e]) => !(e <= (name.startsWith("g") ? gradient : forward)));
  failed += bad.length;
  const worst = Object.entries(errors).map(([n, e]) => `${n} ${e.toExponential(1)}`);
  console.log(
    `${bad.length === 0 ? "ok    " : "FAILED"} ${JSON.stringify(c)} ${(bad.length > 0 ? worst : worst.slice(0, 2)).join(", ")}`,
  );
  for (const t of [
    y,
    finalState,
    again.y,
    again.finalState,
    gyT,
    gFinalT,
    ...grads,
    ...again.grads,
    ...Object.values(tensors),
  ])
    t.dispose();
}
const { liveBuffers } = backend.memory();
console.log(`${failed} failed, ${liveBuffers} buffers live`);
process.exitCode = failed + liveBuffers > 0 ? 1 : 0;
backend[Symbol.dispose]();
