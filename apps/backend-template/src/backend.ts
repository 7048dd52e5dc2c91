import { API_VERSION, type Backend } from "@mamba-ts/backend";
import { argReduce, concat, copy, gather, pad, reduce, scatterAdd } from "./axis.js";
import { binary, cast, compare, fill, unary, where } from "./elementwise.js";
import { matmul } from "./matmul.js";
import { linearScan } from "./scan.js";
import { dtypes, maxBufferBytes, type PagedMemory } from "./storage.js";

/**
 * The backend as an object: what it is called, six storage members, fifteen primitives. It has no `fused`, so everything else is
 * composed of these by core.
 *
 * Your backend: another `name` and `device`, and, when the suite passes, `fused`, one operation after the other.
 */
export function backendOn(memory: PagedMemory): Backend {
  return {
    name: "template",
    apiVersion: API_VERSION,
    device: "JavaScript, memory in pages",
    dtypes,
    preferredWeightDtype: "float32",
    limits: { maxBufferBytes },
    memory: () => memory.use,
    [Symbol.dispose]: () => memory.dispose(),

    alloc: (count, dtype) => memory.alloc(count, dtype),
    upload: (data, dtype) => memory.upload(data, dtype),
    write: (buf, data, start) => memory.write(buf, data, start),
    read: (buf, start, count) => memory.read(buf, start, count),
    free: (buf) => memory.free(buf),
    synchronize: () => memory.synchronize(),

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
