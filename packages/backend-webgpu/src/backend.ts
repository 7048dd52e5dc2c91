import { API_VERSION, type Backend, type FusedOps } from "@mamba-ts/backend";
import { captureOn } from "./capture.js";
import type { Gpu } from "./gpu/gpu.js";
import { argReduce, gather, linearScan, reduce, scatterAdd } from "./primitives/axis.js";
import { cast } from "./primitives/cast.js";
import { binary, compare, fill, unary, where } from "./primitives/elementwise.js";
import { matmul } from "./primitives/matmul.js";
import { concat, copy, pad } from "./primitives/shape.js";
import { dtypes, type WebGpuMemory } from "./storage.js";

/** The backend as an object, on an open device. */
export function backendOn(gpu: Gpu, memory: WebGpuMemory, fused: FusedOps): Backend {
  return {
    name: "webgpu",
    apiVersion: API_VERSION,
    device: gpu.name,
    dtypes,
    preferredWeightDtype: "f16",
    limits: { maxBufferBytes: gpu.maxBufferBytes },
    fused,
    memory: () => memory.use,
    capture: (fn) => captureOn(gpu, fn),
    [Symbol.dispose]: () => {
      memory.dispose();
      gpu.dispose();
    },

    alloc: (count, dtype) => memory.alloc(count, dtype),
    upload: (data, dtype) => memory.upload(data, dtype),
    write: (buf, data, start) => memory.write(buf, data, start),
    read: (buf, start, count) => memory.read(buf, start, count),
    free: (buf) => memory.free(buf),
    async synchronize() {
      memory.assertOpen();
      gpu.commands.flush();
      await gpu.device.queue.onSubmittedWorkDone();
      await gpu.faults.report();
    },

    fill: (shape, value, dtype) => fill(memory, shape, value, dtype),
    copy: (view) => copy(memory, view),
    cast: (x, to) => cast(memory, x, to),
    unary: (op, x) => unary(memory, op, x),
    binary: (op, a, b) => binary(memory, op, a, b),
    compare: (op, a, b) => compare(memory, op, a, b),
    where: (cond, a, b) => where(memory, cond, a, b),
    reduce: (op, x, axis) => reduce(memory, op, x, axis),
    argReduce: (op, x, axis) => argReduce(memory, op, x, axis),
    matmul: (a, b, options) => matmul(memory, a, b, options),
    gather: (x, indices, axis) => gather(memory, x, indices, axis),
    scatterAdd: (shape, indices, updates, axis) => scatterAdd(memory, shape, indices, updates, axis),
    pad: (x, axis, before, after) => pad(memory, x, axis, before, after),
    concat: (xs, axis) => concat(memory, xs, axis),
    linearScan: (a, b, axis, reverse) => linearScan(memory, a, b, axis, reverse),
  };
}
