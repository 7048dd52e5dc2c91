import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { UnsupportedError } from "@mamba-ts/backend";
import { withTypedErrors } from "./native-errors.js";

/** What native/device.h gives. Pointers are addresses, which fit a double; modules, functions, graphs and events are numbers. */
export interface NativeDevice {
  info(): {
    readonly name: string;
    readonly totalBytes: number;
    readonly driver: number;
    readonly multiprocessors: number;
    readonly major: number;
    readonly minor: number;
    /** Whether `describeTiles` can: from CUDA 12 on. */
    readonly describesTensors: boolean;
  };
  /** Bytes free, and in all. */
  memInfo(): [number, number];
  /** 0 if there is no memory. */
  alloc(bytes: number): number;
  release(pointer: number): void;
  load(image: Uint8Array): number;
  find(module: number, name: string, sharedBytes: number, isAllShared: boolean): number;
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
    cluster: number,
    isStruct: boolean,
  ): void;
  /**
   * What the copy engine is told of a tensor [parts, rows, columns] of 16-bit numbers in boxes of all parts, `boxRows` rows and 64 columns: 128 bytes.
   */
  describeTiles(
    pointer: number,
    parts: number,
    rows: number,
    columns: number,
    boxRows: number,
    isBf16: boolean,
  ): Uint8Array;
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
  /** Frees all that was made here. Nothing may be waiting. */
  close(): void;
}

const ADDON = "mamba_cuda.node";

interface NativeModule {
  readonly Device: new (ordinal: number) => NativeDevice;
}

/** What there are packages for, one folder of prebuilt/ each; all with glibc. */
const PLATFORMS = ["linux-x64", "linux-arm64"];

/** Whether the C library is another one than the packages are made for, as on Alpine Linux. */
function isWithoutGlibc(): boolean {
  const report = process.report?.getReport() as { header?: { glibcVersionRuntime?: string } } | undefined;
  return process.platform === "linux" && report?.header?.glibcVersionRuntime === undefined;
}

/** The folder of the addon and the kernels: this platform's package, which in a clone is the folder that `build:native` fills. */
export function nativeFolder(): string {
  const platform = `${process.platform}-${process.arch}`;
  const name = `@mamba-ts/backend-cuda-${platform}`;
  let folder: string;
  try {
    folder = dirname(createRequire(import.meta.url).resolve(`${name}/package.json`));
  } catch (cause) {
    const isMusl = isWithoutGlibc();
    if (!PLATFORMS.includes(platform) || isMusl)
      throw new UnsupportedError(`cuda: there is no addon for ${platform}${isMusl ? " without glibc (musl)" : ""}`, {
        hint: `there is one for ${PLATFORMS.join(" and ")}, with glibc; other backends run here`,
        cause,
      });
    throw new UnsupportedError(`cuda: the addon for ${platform}, ${name}, is not installed`, {
      hint: "it is an optional dependency: install without --omit=optional (npm) or --no-optional (pnpm), on this platform",
      cause,
    });
  }
  if (!existsSync(join(folder, ADDON)))
    throw new UnsupportedError(`cuda: the addon for ${platform} is not built: ${folder} has no ${ADDON}`, {
      hint: "it needs g++ and Node's headers: npx pnpm@10 --filter @mamba-ts/backend-cuda build:native",
    });
  return folder;
}

/** Opens a GPU. Throws UnsupportedError that says what is missing: the addon, the driver, or the device. */
export function openDevice(folder: string, ordinal: number): NativeDevice {
  let native: NativeModule;
  try {
    native = createRequire(import.meta.url)(join(folder, ADDON)) as NativeModule;
  } catch (cause) {
    throw new UnsupportedError(`cuda: the addon does not load: ${(cause as Error).message}`, {
      ...(isWithoutGlibc() && { hint: "it was made for glibc, which is not here" }),
      cause,
    });
  }
  try {
    return withTypedErrors(new native.Device(ordinal));
  } catch (cause) {
    throw new UnsupportedError(`cuda: ${(cause as Error).message}`, {
      hint: "it needs an NVIDIA GPU and its driver (580 or later for the published kernels); other backends need neither",
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
