import { readFileSync } from "node:fs";
import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { relativeError } from "@mamba-ts/backend-testing";
import { type HostArray, Rng, type Tensor, tensor } from "@mamba-ts/tensor";
import { type ResolvedS4LayerConfig, resolveLayerConfig, S4Kernel, type S4LayerConfig } from "../src/index.js";

/** New buffers are full of NaN. */
export const backend = createCpuBackend({ poison: true });

/** A fixture of packages/ssm/test/fixtures (its README says where it comes from): shapes and values. */
export function fixture(name: string): ReadonlyMap<string, { readonly shape: number[]; readonly data: Float32Array }> {
  const bytes = readFileSync(new URL(`../../ssm/test/fixtures/${name}.safetensors`, import.meta.url));
  const headerSize = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, 8 + headerSize).toString()) as {
    [name: string]: { shape: number[]; data_offsets: [number, number] };
  };
  return new Map(
    Object.entries(header)
      .filter(([key]) => key !== "__metadata__")
      .map(
        ([
          key,
          {
            shape,
            data_offsets: [from, to],
          },
        ]) => {
          const part = Uint8Array.from(bytes.subarray(8 + headerSize + from, 8 + headerSize + to));
          return [key, { shape, data: new Float32Array(part.buffer) }];
        },
      ),
  );
}

/** A kernel with random parameters. */
export function makeKernel(
  config: S4LayerConfig,
  dtype: "float32" | "float64" = "float64",
  seed = 1,
): { readonly kernel: S4Kernel; readonly config: ResolvedS4LayerConfig } {
  const resolved = resolveLayerConfig(config);
  const kernel = new S4Kernel(resolved).initialise(backend, new Rng(seed), dtype);
  return { kernel, config: resolved };
}

/** Normally distributed numbers. */
export function normal(shape: readonly number[], seed: number, dtype: "float32" | "float64" = "float64"): Tensor {
  const size = shape.reduce((a, b) => a * b, 1);
  return tensor(backend, new Rng(seed).normal(size), shape, dtype);
}

export const errorOf = async (got: Tensor, want: Tensor): Promise<number> =>
  relativeError(await got.data(), await want.data());

export type Values = HostArray;
