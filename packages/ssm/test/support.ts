import { readFileSync } from "node:fs";
import type { DenseSystem, DiagonalSystem, DplrSystem } from "../src/index.js";
import { between } from "../src/test-support.js";

/** A fixture's tensors, as float64. */
export function fixture(name: string): ReadonlyMap<string, Float64Array> {
  const bytes = readFileSync(new URL(`./fixtures/${name}.safetensors`, import.meta.url));
  const headerSize = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, 8 + headerSize).toString()) as {
    [name: string]: { dtype: string; data_offsets: [number, number] };
  };
  const out = new Map<string, Float64Array>();
  for (const [key, { dtype, data_offsets: range }] of Object.entries(header)) {
    if (key === "__metadata__") continue;
    const part = Uint8Array.from(bytes.subarray(8 + headerSize + range[0], 8 + headerSize + range[1])).buffer;
    out.set(key, dtype === "F64" ? new Float64Array(part) : Float64Array.from(new Float32Array(part)));
  }
  return out;
}

const complex = (random: () => number, n: number) => ({ re: between(random, n), im: between(random, n) });

/** A stable system of n modes, poles with real parts in [-2, -0.1). */
export function randomDiagonal(random: () => number, n: number): DiagonalSystem {
  const A = { re: between(random, n, -2, -0.1), im: between(random, n, -6, 6) };
  return { form: "diagonal", A, B: complex(random, n), C: complex(random, n), D: random() };
}

/** A system of the shape HiPPO's have: Lambda - P P*, stable whatever P is. */
export function randomDplr(random: () => number, n: number, rank = 1): DplrSystem {
  return {
    ...randomDiagonal(random, n),
    form: "dplr",
    P: Array.from({ length: rank }, () => complex(random, n)),
  };
}

/** A stable dense system: skew-symmetric less a positive diagonal. */
export function randomDense(random: () => number, n: number): DenseSystem {
  const A = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    A[i * n + i] = -0.1 - random();
    for (let j = 0; j < i; j++) {
      A[i * n + j] = 4 * random() - 2;
      A[j * n + i] = -A[i * n + j]!;
    }
  }
  return { form: "dense", A, B: between(random, n), C: between(random, n), D: random() };
}
