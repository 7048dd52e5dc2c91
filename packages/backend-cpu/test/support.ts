import type { Backend, Buf, DType, FusedOp, Operand, Shape } from "@mamba-ts/backend";
import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { afterEach, beforeEach, expect } from "vitest";

/** A backend for one file's tests: new buffers are full of NaN, and every test must give back what it took. */
export function poisonedBackend(): Backend {
  const backend = createCpuBackend({ poison: true });
  let before = backend.memory();
  beforeEach(() => {
    before = backend.memory();
  });
  afterEach(() => expect(backend.memory()).toEqual(before));
  return backend;
}

/** Seeded numbers, uniform in [-1, 1). */
export function randomNumbers(seed: number): (count: number) => number[] {
  let state = seed >>> 0;
  const next = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  };
  return (count) => Array.from({ length: count }, next);
}

export function sizeOf(shape: Shape): number {
  return shape.reduce((n, m) => n * m, 1);
}

/** A dense operand in new memory. */
export function upload(backend: Backend, data: ArrayLike<number>, shape: Shape, dtype: DType = "float64"): Operand {
  const plain = dtype === "int32" ? Int32Array.from(data) : Float64Array.from(data);
  const wide = operandOf(backend.upload(plain, dtype === "int32" ? "int32" : "float64"), shape);
  if (wide.dtype === dtype) return wide;
  const narrow = operandOf(backend.cast(wide, dtype), shape);
  backend.free(wide.buf);
  return narrow;
}

export function operandOf(buf: Buf, shape: Shape): Operand {
  return { buf, offset: 0, rowStride: shape.at(-1) ?? 1, shape, dtype: buf.dtype };
}

/** The numbers of a buffer, which is freed. */
export async function take(backend: Backend, buf: Buf): Promise<number[]> {
  const wide = buf.dtype === "int32" ? buf : backend.cast(operandOf(buf, [buf.count]), "float64");
  const bytes = await backend.read(wide);
  if (wide !== buf) backend.free(wide);
  backend.free(buf);
  return Array.from(buf.dtype === "int32" ? new Int32Array(bytes) : new Float64Array(bytes));
}

export function freeAll(backend: Backend, operands: Iterable<Operand | undefined>): void {
  for (const operand of operands) if (operand !== undefined) backend.free(operand.buf);
}

/** ||got - want|| / ||want||, infinite where one of them has a NaN. */
export function relativeError(got: readonly number[], want: readonly number[]): number {
  const norm = (x: readonly number[]): number => Math.sqrt(x.reduce((sum, v) => sum + v * v, 0));
  const error = norm(got.map((v, i) => v - want[i]!));
  if (got.length !== want.length || Number.isNaN(error)) return Number.POSITIVE_INFINITY;
  return error === 0 ? 0 : error / norm(want);
}

export interface Numbers {
  readonly data: readonly number[];
  readonly shape: Shape;
  readonly dtype?: DType;
}
export type Arguments = { readonly [name: string]: Numbers };
type AnyOp = FusedOp<unknown, string, string, string>;

/** Uploads arguments: floats in `dtype` unless they say otherwise. */
export function uploadAll(backend: Backend, args: Arguments, dtype: DType): { [name: string]: Operand } {
  return Object.fromEntries(
    Object.entries(args).map(([name, { data, shape, dtype: own }]) => [
      name,
      upload(backend, data, shape, own ?? dtype),
    ]),
  );
}

/** Arguments as they are stored: rounded to `dtype`, or to their own. */
export async function rounded(backend: Backend, args: Arguments, dtype: DType): Promise<Arguments> {
  const result: { [name: string]: Numbers } = {};
  for (const [name, operand] of Object.entries(uploadAll(backend, args, dtype)))
    result[name] = { ...args[name]!, data: await take(backend, operand.buf) };
  return result;
}

/** The outputs of a fused op. */
export async function outputsOf(
  backend: Backend,
  op: unknown,
  args: Arguments,
  descriptor: object,
  dtype: DType = "float64",
): Promise<{ [name: string]: number[] }> {
  const operands = uploadAll(backend, args, dtype);
  // An op without a gradient saves nothing.
  const { outputs, saved = [] } = (op as AnyOp).forward(operands, descriptor, { save: true });
  for (const buf of saved) backend.free(buf);
  freeAll(backend, Object.values(operands));
  const result: { [name: string]: number[] } = {};
  for (const [name, buf] of Object.entries(outputs)) result[name] = await take(backend, buf!);
  return result;
}

/** The gradients of sum over outputs of `weights` . output, with respect to all of the arguments in `needs`. */
export async function gradientsOf(
  backend: Backend,
  op: unknown,
  args: Arguments,
  descriptor: object,
  weights: Arguments,
  needs: readonly string[],
  dtype: DType = "float64",
): Promise<{ [name: string]: number[] }> {
  const operands = uploadAll(backend, args, dtype);
  const gradOutputs = uploadAll(backend, weights, dtype);
  const { outputs, saved } = (op as AnyOp).forward(operands, descriptor, { save: true });
  const shapes = Object.fromEntries(
    Object.entries(outputs).map(([name, buf]) => [name, operandOf(buf!, [buf!.count])]),
  );
  const grads = (op as AnyOp).backward!(operands, descriptor, shapes, saved, gradOutputs, new Set(needs));
  expect(Object.keys(grads).sort()).toEqual([...needs].sort());
  const result: { [name: string]: number[] } = {};
  for (const name of needs) result[name] = await take(backend, grads[name]!);
  for (const buf of [...Object.values(outputs), ...saved]) backend.free(buf!);
  freeAll(backend, [...Object.values(operands), ...Object.values(gradOutputs)]);
  return result;
}

/** Every gradient against fourth-order central differences of the op's own forward pass in float64, each argument alone too. */
export async function expectGradients(
  backend: Backend,
  op: unknown,
  args: Arguments,
  descriptor: object,
  outputs: readonly string[],
  tolerance = 1e-7,
): Promise<void> {
  const shapes = await outputsOf(backend, op, args, descriptor);
  const random = randomNumbers(99);
  const weights: Arguments = Object.fromEntries(
    outputs.map((name) => [name, { data: random(shapes[name]!.length), shape: [shapes[name]!.length] }]),
  );
  const needs = Object.keys(args).filter((name) => args[name]!.dtype !== "int32");
  const objective = async (values: Arguments): Promise<number> => {
    const got = await outputsOf(backend, op, values, descriptor);
    return outputs.reduce((sum, name) => got[name]!.reduce((s, y, i) => s + y * weights[name]!.data[i]!, sum), 0);
  };
  const together = await gradientsOf(backend, op, args, descriptor, weights, needs);
  for (const name of needs) {
    const { data, shape } = args[name]!;
    const want: number[] = [];
    for (let i = 0; i < data.length; i++) {
      const at = (step: number): Promise<number> =>
        objective({ ...args, [name]: { shape, data: data.map((x, j) => (j === i ? x + step * 1e-3 : x)) } });
      want.push((8 * ((await at(1)) - (await at(-1))) - ((await at(2)) - (await at(-2)))) / 12e-3);
    }
    const alone = await gradientsOf(backend, op, args, descriptor, weights, [name]);
    expect(alone[name], `${name} alone`).toEqual(together[name]);
    const size = Math.hypot(...want);
    if (size < 1e-9) expect(Math.hypot(...together[name]!), name).toBeLessThan(1e-9);
    else expect(relativeError(together[name]!, want), name).toBeLessThan(tolerance);
  }
}
