import { BackendError, type Buf, type DType, isMambaError, type Operand } from "@mamba-ts/backend";
import { type Parameter, pack } from "./launch.js";
import { type CudaBuf, CudaMemory } from "./memory.js";
import { kernelImage, type NativeDevice, openDevice } from "./native.js";

export interface DeviceOptions {
  readonly folder: string;
  readonly ordinal: number;
  readonly maxBytes: number | undefined;
  readonly poison: boolean;
  readonly cublasLt: string;
  readonly cufft: string;
}

/** What few launches need. */
export interface LaunchOptions {
  /** Blocks of a cluster, along the first axis of the grid (sm_90). */
  readonly cluster?: number;
  /**
   * All of a multiprocessor's on-chip memory is shared memory, none of it cache but what is always. Kernels that are to run side by side must agree: a multiprocessor divides
   * its memory anew only when nothing runs on it.
   */
  readonly isAllShared?: boolean;
}

type Extent = readonly [number, number?, number?];

/** Room for cuBLASLt; what Hopper's kernels ask for. */
const WORKSPACE = 32 * 2 ** 20;
/** Descriptions of tensors that are kept, 128 bytes each. */
const MOST_TILES = 4096;

/** One GPU: its memory, and kernels by the names they have in /kernels. */
export class CudaDevice {
  readonly memory: CudaMemory;
  readonly native: NativeDevice;
  readonly info: ReturnType<NativeDevice["info"]>;
  readonly hasCublas: boolean;
  readonly hasCufft: boolean;
  /** Called after each kernel and product that is enqueued: for profiles. */
  onLaunch: ((what: string) => void) | undefined;
  readonly #modules = new Map<string, number>();
  readonly #functions = new Map<string, number>();
  readonly #tiles = new Map<string, Uint8Array>();
  #workspace = 0;
  /** How many wait for the device: what they wait for must not go before. */
  #waits = 0;

  constructor(readonly options: DeviceOptions) {
    this.native = openDevice(options.folder, options.ordinal);
    this.info = this.native.info();
    this.memory = new CudaMemory(this.native, {
      maxBytes: options.maxBytes ?? this.info.totalBytes,
      poison: options.poison,
    });
    this.hasCublas = this.native.openCublas(options.cublasLt);
    this.hasCufft = this.native.openCufft(options.cufft);
  }

  /**
   * Enqueues a kernel: `kernel` of the file `file` of /kernels.
   * @param early - it may start while the kernel before it runs, and waits for it by itself (see common/chain.cuh); "ends" if it lets the next one start only then
   */
  launch(
    file: string,
    kernel: string,
    grid: Extent,
    block: Extent,
    parameters: readonly Parameter[],
    sharedBytes = 0,
    early: boolean | "ends" = false,
    { cluster = 1, isAllShared = false }: LaunchOptions = {},
  ): void {
    const fn = this.#find(file, kernel, sharedBytes, isAllShared);
    const [x, y = 1, z = 1] = grid;
    if (x === 0 || y === 0 || z === 0) return;
    try {
      const [blockX, blockY = 1, blockZ = 1] = block;
      const isEarly = early !== false && this.info.major >= 9;
      // What is aligned to more than its size stands in the one struct that the kernel takes.
      const isStruct = parameters.some((p) => "bytes" in p);
      const packed = pack(parameters);
      this.native.launch(fn, x, y, z, blockX, blockY, blockZ, sharedBytes, packed, isEarly, cluster, isStruct);
      this.memory.launched(parameters, isEarly && early !== "ends");
      this.onLaunch?.(kernel);
    } catch (cause) {
      throw new BackendError(
        `cuda: ${kernel} with grid ${grid.join(" x ")} and block ${block.join(" x ")}: ${(cause as Error).message}`,
        { cause },
      );
    }
  }

  /** Enqueues a kernel that loops over `n` elements. */
  each(
    file: string,
    kernel: string,
    n: number,
    parameters: readonly Parameter[],
    early: boolean | "ends" = false,
  ): void {
    const blocks = Math.min(Math.ceil(n / 256), this.info.multiprocessors * 32);
    this.launch(file, kernel, [blocks], [256], parameters, 0, early);
  }

  /** Whether kernels for sm_90a run here, whose copy engine takes tiles of tensors. */
  get hasTiles(): boolean {
    return this.info.major === 9 && this.info.describesTensors;
  }

  /**
   * What the copy engine is told of a matrix [rows, columns] of bf16 or f16, as a parameter of 128 bytes (`TensorMap` of common/tiles.cuh): it is brought in boxes of
   * `boxRows` rows and 64 columns, zeros beyond the last row.
   * @param parts - the rows are as many blocks of equal size, and a box has `boxRows` of each
   */
  tiles(buf: CudaBuf, rows: number, columns: number, boxRows: number, parts = 1): Parameter {
    const key = `${buf.pointer} ${rows} ${columns} ${boxRows} ${parts} ${buf.dtype}`;
    let bytes = this.#tiles.get(key);
    if (bytes === undefined) {
      const isBf16 = buf.dtype === "bf16";
      bytes = this.native.describeTiles(buf.pointer, parts, rows / parts, columns, boxRows, isBf16);
      // It depends on nothing else: what is forgotten is made again.
      if (this.#tiles.size >= MOST_TILES) this.#tiles.clear();
      this.#tiles.set(key, bytes);
    }
    return { bytes, align: 64, of: buf };
  }

  #find(file: string, kernel: string, sharedBytes: number, isAllShared: boolean): number {
    // How memory is divided belongs to a function of a module: who wants it the other way has a copy of the module.
    const suffix = isAllShared ? " all shared" : "";
    const key = `${kernel}${sharedBytes > 48 * 1024 ? ` ${sharedBytes}` : ""}${suffix}`;
    const known = this.#functions.get(key);
    if (known !== undefined) return known;
    let module = this.#modules.get(file + suffix);
    if (module === undefined) {
      module = this.native.load(kernelImage(this.options.folder, file));
      this.#modules.set(file + suffix, module);
    }
    const fn = this.native.find(module, kernel, sharedBytes, isAllShared);
    this.#functions.set(key, fn);
    return fn;
  }

  alloc(count: number, dtype: DType): CudaBuf {
    return this.memory.alloc(count, dtype);
  }

  /** The same bytes in memory of their own. */
  copyOf(buf: CudaBuf): CudaBuf {
    const copy = this.alloc(buf.count, buf.dtype);
    if (buf.byteLength > 0) this.native.copy(copy.pointer, buf.pointer, buf.byteLength);
    return copy;
  }

  own(x: Operand | Buf): CudaBuf {
    return this.memory.own("buf" in x ? x.buf : x);
  }

  /** Address and size of memory that one matrix product at a time may use. */
  get workspace(): readonly [number, number] {
    if (this.#workspace === 0) this.#workspace = this.native.alloc(WORKSPACE);
    return [this.#workspace, this.#workspace === 0 ? 0 : WORKSPACE];
  }

  /** Failures of earlier work show when somebody waits: they become errors of ours. */
  async wait<T>(work: () => Promise<T>): Promise<T> {
    this.memory.assertLive();
    this.#waits++;
    try {
      return await work();
    } catch (cause) {
      if (isMambaError(cause)) throw cause;
      throw new BackendError(`cuda: work on the device failed: ${(cause as Error).message}`, {
        hint: "CUDA_LAUNCH_BLOCKING=1 shows the kernel; the backend cannot be used any more",
        cause,
      });
    } finally {
      this.#waits--;
      if (this.memory.isDisposed) this.#close();
    }
  }

  /** Gives everything back, live buffers included, as soon as nothing is waited for any more. */
  dispose(): void {
    if (this.memory.isDisposed) return;
    this.memory.dispose();
    this.#close();
  }

  #close(): void {
    if (this.#waits > 0) return;
    try {
      if (this.#workspace !== 0) this.native.release(this.#workspace);
      this.memory.release();
    } catch {
      // After a fault of the device the driver takes nothing back; who waited has been told, and all of it goes with the context.
    } finally {
      this.native.close();
    }
  }
}
