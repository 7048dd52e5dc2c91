import {
  API_VERSION,
  type Backend,
  type Capture,
  DisposedError,
  type DType,
  dtypeLayout,
  type FusedOps,
  InvalidArgumentError,
  UnsupportedError,
} from "@mamba-ts/backend";
import { CudaDevice } from "./device.js";
import { binary, cast, compare, fill, unary, where } from "./elementwise.js";
import { fusedOps } from "./fused/index.js";
import { gather, scatterAdd } from "./gather.js";
import { linearScan } from "./linear-scan.js";
import { matmul } from "./matmul.js";
import { nativeFolder } from "./native.js";
import { argReduce, reduce } from "./reduce.js";
import { concat, copy, pad } from "./shape.js";

export interface CudaBackendOptions {
  /** Which GPU, from 0 on. */
  readonly device?: number;
  /** Replaces the fused ops; `{}` leaves every operation to its composition. */
  readonly fused?: FusedOps;
  /** Device memory this backend may take, in bytes; all there is by default. */
  readonly maxBytes?: number;
  /** Fills every new buffer with NaN first: shows operations that do not write all of their result. For tests. */
  readonly poison?: boolean;
  /** The folder of the addon and its kernels; that of this package by default. */
  readonly nativeFolder?: string;
  /** Path of libcublasLt.so, where the system does not find it by itself. */
  readonly cublasLt?: string;
  /** Path of libcufft.so, likewise; without the library Fourier transforms are composed. */
  readonly cufft?: string;
}

/** A backend with the device it runs on, for measuring. */
export interface CudaBackend extends Backend {
  readonly cuda: CudaDevice;
}

/**
 * A backend on one NVIDIA GPU. Needs the NVIDIA driver and no CUDA toolkit; matrix products go through cuBLASLt where it is found, else
 * through a slower kernel, which `device` says. Throws UnsupportedError that says what is missing.
 */
export async function createBackend(options: CudaBackendOptions = {}): Promise<CudaBackend> {
  const { device: ordinal = 0, maxBytes, poison = false } = options;
  if (!Number.isInteger(ordinal) || ordinal < 0)
    throw new InvalidArgumentError(`createBackend: device is ${ordinal}, not an integer of at least 0`);
  if (maxBytes !== undefined && !(maxBytes > 0))
    throw new InvalidArgumentError(`createBackend: maxBytes is ${maxBytes}, not positive`);
  const folder = options.nativeFolder ?? nativeFolder();
  const cublasLt = options.cublasLt ?? process.env["MAMBA_TS_CUBLASLT"] ?? "";
  const cufft = options.cufft ?? process.env["MAMBA_TS_CUFFT"] ?? "";
  const device = new CudaDevice({ folder, ordinal, maxBytes, poison, cublasLt, cufft });
  const { name, driver, totalBytes } = device.info;
  return {
    name: "cuda",
    apiVersion: API_VERSION,
    device: `${name}${ordinal > 0 ? ` (device ${ordinal})` : ""}, driver ${Math.floor(driver / 1000)}.${(driver % 1000) / 10}, ${device.hasCublas ? "cuBLASLt" : "no cuBLASLt: matrix products are slow"}`,
    dtypes: new Set<DType>(["float32", "float64", "bf16", "f16", "int32"]),
    preferredWeightDtype: "float32",
    limits: { maxBufferBytes: maxBytes ?? totalBytes },
    fused: options.fused ?? fusedOps(device),
    cuda: device,
    memory: () => device.memory.use,

    alloc: (count, dtype) => device.alloc(count, dtype),
    upload(data, dtype) {
      const count = data.byteLength / dtypeLayout[dtype].bytes;
      // A graph would copy from the host's memory again at each replay: what is uploaded while it is recorded is a constant of it.
      const isConstant = device.memory.isPinning;
      const buf = device.memory.alloc(count, dtype, isConstant);
      if (data.byteLength > 0) device.native[isConstant ? "copyInNow" : "copyIn"](buf.pointer, bytesOf(data));
      return buf;
    },
    write(buf, data, start = 0) {
      const own = device.own(buf);
      const at = start * own.bytesEach;
      if (start < 0 || at + data.byteLength > own.byteLength)
        throw new InvalidArgumentError(
          `cuda: writing ${data.byteLength} bytes at element ${start} of ${own.count} ${own.dtype}`,
        );
      if (device.memory.isPinning)
        throw new UnsupportedError("cuda: write inside a capture", {
          hint: "write between replays, to the tensors that the captured function reads",
        });
      if (data.byteLength > 0) device.native.copyIn(own.pointer + at, bytesOf(data));
    },
    async read(buf, start = 0, count = buf.count - start) {
      const own = device.own(buf);
      if (start < 0 || count < 0 || start + count > own.count)
        throw new InvalidArgumentError(`cuda: reading ${count} elements from ${start} on of ${own.count}`);
      if (device.memory.isPinning)
        throw new UnsupportedError("cuda: read inside a capture", {
          hint: "read the captured function's results after replay",
        });
      if (count === 0) return new ArrayBuffer(0);
      const { pointer, bytesEach } = own;
      return device.wait(() => device.native.copyOut(pointer + start * bytesEach, count * bytesEach));
    },
    free: (buf) => device.memory.free(buf),
    synchronize: () => device.wait(() => device.native.synchronize()),
    capture: (fn) => capture(device, fn),

    fill: (shape, value, dtype) => fill(device, shape, value, dtype),
    copy: (view) => copy(device, view),
    cast: (x, to) => cast(device, x, to),
    unary: (op, x) => unary(device, op, x),
    binary: (op, a, b) => binary(device, op, a, b),
    compare: (op, a, b) => compare(device, op, a, b),
    where: (cond, a, b) => where(device, cond, a, b),
    reduce: (op, x, axis) => reduce(device, op, x, axis),
    argReduce: (op, x, axis) => argReduce(device, op, x, axis),
    matmul: (a, b, given) => matmul(device, a, b, given),
    gather: (x, indices, axis) => gather(device, x, indices, axis),
    scatterAdd: (shape, indices, updates, axis) => scatterAdd(device, shape, indices, updates, axis),
    pad: (x, axis, before, after) => pad(device, x, axis, before, after),
    concat: (xs, axis) => concat(device, xs, axis),
    linearScan: (a, b, axis, reverse) => linearScan(device, a, b, axis, reverse),
    [Symbol.dispose]: () => device.dispose(),
  };
}

/** What `fn` enqueues becomes one CUDA graph: replaying it is one launch. Where `fn` throws, nothing is left behind. */
function capture(device: CudaDevice, fn: () => void): Capture {
  device.memory.assertLive();
  if (device.memory.isPinning) throw new UnsupportedError("cuda: a capture inside a capture");
  // cuBLASLt's memory must exist before: a graph may not allocate it.
  void device.workspace;
  device.memory.pin();
  device.native.beginCapture();
  let failure: unknown;
  try {
    fn();
  } catch (error) {
    failure = error ?? new Error("capture: fn threw");
  }
  const release = device.memory.unpin();
  let graph: number;
  try {
    graph = device.native.endCapture();
  } catch (error) {
    release();
    throw failure ?? error;
  }
  const dispose = (): void => {
    // A backend's graphs go with it.
    if (!device.memory.isDisposed) device.native.destroyGraph(graph);
    release();
  };
  if (failure !== undefined) {
    dispose();
    throw failure;
  }
  // Recording does not run anything.
  device.native.launchGraph(graph);
  let isDisposed = false;
  return {
    replay() {
      device.memory.assertLive();
      if (isDisposed) throw new DisposedError("cuda: a capture was replayed after it had been disposed");
      device.native.launchGraph(graph);
    },
    [Symbol.dispose]() {
      if (!isDisposed) dispose();
      isDisposed = true;
    },
  };
}

function bytesOf(view: ArrayBufferView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}
