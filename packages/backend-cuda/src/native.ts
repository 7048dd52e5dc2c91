import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { UnsupportedError } from "@mamba-ts/backend";
import { withTypedErrors } from "./native-errors.js";

/** What native/addon.cc gives. Pointers are addresses, which fit a double; modules, functions, graphs and events are numbers. */
export interface NativeDevice {
  info(): {
    readonly name: string;
    readonly totalBytes: number;
    readonly driver: number;
    readonly multiprocessors: number;
    readonly major: number;
    readonly minor: number;
  };
  /** Bytes free, and in all. */
  memInfo(): [number, number];
  /** 0 if there is no memory. */
  alloc(bytes: number): number;
  release(pointer: number): void;
  load(image: Uint8Array): number;
  find(module: number, name: string, sharedBytes: number): number;
  launch(
    fn: number,
    gridX: number,
    gridY: number,
    gridZ: number,
    blockX: number,
    blockY: number,
    blockZ: number,
    sharedBytes: number,
    parameters: Uint8Array,
    isEarly: boolean,
  ): void;
  copyIn(pointer: number, bytes: Uint8Array): void;
  /** At once, beside the stream: into memory that no enqueued work uses. */
  copyInNow(pointer: number, bytes: Uint8Array): void;
  copyOut(pointer: number, bytes: number): Promise<ArrayBuffer>;
  /** Between two places of the device. */
  copy(to: number, from: number, bytes: number): void;
  set(pointer: number, value: number, bytes: number): void;
  synchronize(): Promise<void>;
  beginCapture(): void;
  endCapture(): number;
  launchGraph(graph: number): void;
  destroyGraph(graph: number): void;
  record(): number;
  elapsed(from: number, to: number): number;
  openCublas(path: string): boolean;
  matmul(
    a: number,
    b: number,
    d: number,
    workspace: number,
    workspaceBytes: number,
    m: number,
    n: number,
    k: number,
    batch: number,
    typeIn: number,
    typeOut: number,
    transA: boolean,
    transB: boolean,
    lda: number,
    ldb: number,
    ldd: number,
    strideA: number,
    strideB: number,
    strideD: number,
    accumulate: boolean,
  ): void;
  openCufft(path: string): boolean;
  fft(n: number, rows: number, inverse: boolean, double: boolean, input: number, output: number): void;
  /** Frees all that was made here, once what is being waited for has been delivered. */
  close(): void;
}

interface NativeModule {
  readonly Device: new (ordinal: number) => NativeDevice;
}

/** The folder of the addon and the kernels: what this package was built with, or the package of this platform. */
export function nativeFolder(): string {
  const platform = `${process.platform}-${process.arch}`;
  const own = fileURLToPath(new URL(`../prebuilt/${platform}`, import.meta.url));
  if (existsSync(join(own, "mamba_cuda.node"))) return own;
  try {
    return dirname(createRequire(import.meta.url).resolve(`@mamba-ts/backend-cuda-${platform}/mamba_cuda.node`));
  } catch (cause) {
    throw new UnsupportedError(`cuda: there is no addon for ${platform}`, {
      hint: "install without --omit=optional; in a clone, build it: npx pnpm@10 --filter @mamba-ts/backend-cuda build:native",
      cause,
    });
  }
}

/** Opens a GPU. Throws UnsupportedError that says what is missing: the addon, the driver, or the device. */
export function openDevice(folder: string, ordinal: number): NativeDevice {
  let native: NativeModule;
  try {
    native = createRequire(import.meta.url)(join(folder, "mamba_cuda.node")) as NativeModule;
  } catch (cause) {
    throw new UnsupportedError(`cuda: the addon does not load: ${(cause as Error).message}`, { cause });
  }
  try {
    return withTypedErrors(new native.Device(ordinal));
  } catch (cause) {
    throw new UnsupportedError(`cuda: ${(cause as Error).message}`, {
      hint: "it needs an NVIDIA GPU and its driver (version 450 or later); other backends need neither",
      cause,
    });
  }
}

/** The compiled kernels of one folder of /kernels. */
export function kernelImage(folder: string, name: string): Uint8Array {
  const path = join(folder, `${name}.fatbin`);
  if (!existsSync(path))
    throw new UnsupportedError(`cuda: the kernels of ${name} are not built`, {
      hint: "they need nvcc (CUDA toolkit 12 or later): npx pnpm@10 --filter @mamba-ts/backend-cuda build:native",
    });
  return readFileSync(path);
}
