import { type Backend, CheckpointError } from "@mamba-ts/backend";
import { readTensor, type TensorSource, type TensorToWrite, tensorToWrite } from "@mamba-ts/checkpoint";
import { fill, neg, reshape, sameShape, sizeOf, stack, type Tensor } from "@mamba-ts/tensor";
import { complexMul, fromPairs } from "./complex-tensor.js";
import type { S4Kernel } from "./kernel.js";

/**
 * The two dialects of state-spaces/s4.
 * - `s4`, models/s4/s4.py: `layer.kernel.{C, inv_dt, A_real, A_imag, B, P, l_kernel}`, A = -f(A_real) - i A_imag
 * - `s4d`, models/s4/s4d.py: `kernel.{C, log_dt, log_A_real, A_imag}`, A = -exp(log_A_real) + i A_imag, B = 1
 */
export type S4Dialect = "s4" | "s4d";

/** One way a parameter may lie in a file, and how its value differs. */
interface Candidate {
  readonly name: string;
  readonly negated?: boolean;
}

const minimal: { readonly [name: string]: string } = {
  "kernel.inv_dt": "kernel.log_dt",
  "kernel.A_real": "kernel.log_A_real",
};

/** Where a parameter of a layer (`layer.kernel.C`, `output_linear.0.bias`) may be found, first choice first. */
function candidates(name: string, dialect: S4Dialect): Candidate[] {
  const bare = name.replace(/(^|\.)layer\./, "$1");
  if (dialect === "s4") return [{ name }, { name: bare }];
  const tail = Object.keys(minimal).find((key) => bare.endsWith(key));
  if (tail !== undefined) return [{ name: bare.slice(0, -tail.length) + minimal[tail] }];
  return [{ name: bare, negated: bare.endsWith("kernel.A_imag") }];
}

/** `s4d` where a file has a `log_A_real`. */
export function detectDialect(source: TensorSource): S4Dialect {
  return source.names.some((name) => name.endsWith("log_A_real")) ? "s4d" : "s4";
}

/** Reads one parameter of the given name and shape; `undefined` where the dialect has none (B of `s4d`, which is 1). */
export async function readParameter(
  source: TensorSource,
  name: string,
  shape: readonly number[],
  dialect: S4Dialect,
  backend: Backend,
  dtype: "float32" | "float64",
): Promise<{ readonly value: Tensor; readonly fileName: string | undefined }> {
  if (dialect === "s4d" && name.endsWith("kernel.B")) {
    // (1, 0) per mode
    const one = fill(backend, [sizeOf(shape) / 2], 1, dtype);
    const zero = fill(backend, [sizeOf(shape) / 2], 0, dtype);
    const value = reshape(stack([one, zero], 1), shape);
    for (const t of [one, zero]) t.dispose();
    return { value, fileName: undefined };
  }
  const found = candidates(name, dialect).find((c) => source.has(c.name));
  if (found === undefined)
    throw new CheckpointError(`checkpoint: tensor ${candidates(name, dialect)[0]!.name} is missing`);
  const info = source.info(found.name);
  const squeezed = (s: readonly number[]): number[] => s.filter((n) => n !== 1);
  // The dialects differ in axes of size 1 only.
  if (!sameShape(squeezed(info.shape), squeezed(shape)))
    throw new CheckpointError(
      `${info.file}: tensor ${found.name} is [${info.shape.join(", ")}], the config makes it [${shape.join(", ")}]`,
    );
  const raw = await readTensor(source, found.name, backend, { dtype });
  const shaped = sameShape(raw.shape, shape) ? raw : reshape(raw, shape);
  const value = found.negated === true ? neg(shaped) : shaped;
  for (const t of [raw, shaped]) if (t !== value) t.dispose();
  return { value, fileName: found.name };
}

/** The buffer `l_kernel` of a kernel: the length its C is truncated at; 0 if the file has none. */
export async function readKernelLength(
  source: TensorSource,
  prefix: string,
): Promise<{ length: number; fileName?: string }> {
  const names = [`${prefix}layer.kernel.l_kernel`, `${prefix}kernel.l_kernel`];
  const fileName = names.find((name) => source.has(name));
  if (fileName === undefined) return { length: 0 };
  const info = source.info(fileName);
  const bytes = await source.bytes(fileName);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length =
    info.dtype === "I64"
      ? Number(view.getBigInt64(0, true))
      : info.dtype === "I32"
        ? view.getInt32(0, true)
        : Number.NaN;
  if (!Number.isSafeInteger(length) || length < 0)
    throw new CheckpointError(`${info.file}: tensor ${fileName} (${info.dtype}) is no length`);
  return { length, fileName };
}

/** A layer's parameter as it is written: its tensor, or what the minimal dialect has in its place. */
export function parametersToWrite(
  named: Iterable<readonly [string, Tensor]>,
  dialect: S4Dialect,
  kernelOf: (prefix: string) => S4Kernel,
): TensorToWrite[] {
  const out: TensorToWrite[] = [];
  for (const [name, tensor] of named) {
    const [{ name: fileName, negated }] = candidates(name, dialect) as [Candidate];
    if (dialect === "s4") {
      out.push(tensorToWrite(name, tensor));
      if (name.endsWith("kernel.C")) {
        const prefix = name.slice(0, -"kernel.C".length);
        const { kernelLength } = kernelOf(prefix);
        const bytes = new Uint8Array(BigInt64Array.of(BigInt(kernelLength)).buffer);
        if (kernelLength > 0)
          out.push({ name: `${prefix}kernel.l_kernel`, dtype: "I64", shape: [], bytes: () => bytes });
      }
    } else if (name.endsWith("kernel.B")) continue;
    else if (name.endsWith("kernel.C")) {
      // B is 1 in this dialect: only the product with C counts.
      const kernel = kernelOf(name.slice(0, -"kernel.C".length));
      const { re, im } = complexMul(fromPairs(tensor), kernel.modes().B);
      out.push(tensorToWrite(fileName, reshape(stack([re, im], 3), tensor.shape.slice(1))));
    } else {
      const value = negated === true ? neg(tensor) : tensor;
      const flat = /kernel\.inv_dt$|layer\.D$/.test(name) ? reshape(value, [value.size]) : value;
      const shape = name.endsWith("output_linear.0.weight") ? [...flat.shape, 1] : flat.shape;
      out.push(tensorToWrite(fileName, reshape(flat, shape)));
    }
  }
  return out;
}
