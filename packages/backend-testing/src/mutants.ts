import type { Backend, Buf, FusedOps } from "@mamba-ts/backend";
import { override } from "./composed-only.js";

/** A backend that is wrong in one place. A suite that lets one pass is no suite. */
export interface Mutant {
  readonly name: string;
  /** The operations whose cases should notice. */
  readonly ops: readonly string[];
  /** @param later - takes what puts the backend right again, once the mutant has been tried */
  mutate(backend: Backend, later: (repair: () => void) => void): Backend;
}

type Fused = { -readonly [K in keyof FusedOps]: FusedOps[K] };

function breakFused<
  K extends
    | "selectiveScan"
    | "causalConv1d"
    | "rmsNorm"
    | "linear"
    | "linearCrossEntropy"
    | "gatedOutput"
    | "layerNorm"
    | "fftConvolution",
>(backend: Backend, name: K, change: (op: NonNullable<FusedOps[K]>) => Partial<NonNullable<FusedOps[K]>>): Backend {
  const op = backend.fused?.[name];
  if (op === undefined) return backend;
  return override(backend, {
    fused: { ...(backend.fused as Fused), [name]: { ...op, ...change(op as NonNullable<FusedOps[K]>) } },
  });
}

/** Wrong kernels, wrong gradients, and a leak. Those of fused ops change nothing in a backend that has none. */
export const mutants: readonly Mutant[] = [
  {
    name: "sub is add",
    ops: ["sub"],
    mutate: (b) => override(b, { binary: (op, x, y) => b.binary(op === "sub" ? "add" : op, x, y) }),
  },
  {
    name: "softplus is exp",
    ops: ["softplus"],
    mutate: (b) => override(b, { unary: (op, x) => b.unary(op === "softplus" ? "exp" : op, x) }),
  },
  {
    name: "le is lt",
    ops: ["le"],
    mutate: (b) => override(b, { compare: (op, x, y) => b.compare(op === "le" ? "lt" : op, x, y) }),
  },
  {
    name: "where swaps its choices",
    ops: ["where"],
    mutate: (b) =>
      override(b, {
        where: (c, x, y) =>
          b.where(c, x.shape.length === y.shape.length ? y : x, x.shape.length === y.shape.length ? x : y),
      }),
  },
  {
    name: "sum is max",
    ops: ["sum"],
    mutate: (b) => override(b, { reduce: (_, x, axis) => b.reduce("max", x, axis) }),
  },
  {
    name: "argmax is argmin",
    ops: ["argReduce"],
    mutate: (b) => override(b, { argReduce: (op, x, axis) => b.argReduce(op === "max" ? "min" : "max", x, axis) }),
  },
  {
    name: "linearScan runs forwards only",
    ops: ["linearScan"],
    mutate: (b) => override(b, { linearScan: (x, y, axis) => b.linearScan(x, y, axis, false) }),
  },
  {
    name: "pad ignores what comes after",
    ops: ["pad"],
    mutate: (b) => override(b, { pad: (x, axis, before, after) => b.pad(x, axis, before + after, 0) }),
  },
  {
    name: "concat in reverse",
    ops: ["concat"],
    mutate: (b) => override(b, { concat: (xs, axis) => b.concat([...xs].reverse(), axis) }),
  },
  {
    name: "free forgets",
    ops: ["add"],
    mutate: (b, later) => {
      let n = 0;
      const forgotten: Buf[] = [];
      later(() => {
        for (const buf of forgotten) b.free(buf);
      });
      return override(b, {
        free: (buf) => {
          if (n++ % 5 === 4) forgotten.push(buf);
          else b.free(buf);
        },
      });
    },
  },
  {
    name: "the scan's gradient forgets the final state's",
    ops: ["selectiveScan"],
    mutate: (b) =>
      breakFused(b, "selectiveScan", (op) => ({
        backward: (args, d, outputs, saved, { y }, needs) =>
          op.backward!(args, d, outputs, saved, y === undefined ? {} : { y }, needs),
      })),
  },
  {
    name: "the scan ignores its initial state",
    ops: ["selectiveScan"],
    mutate: (b) =>
      breakFused(b, "selectiveScan", (op) => ({
        forward: (args, d, options) => op.forward({ ...args, initialState: undefined }, d, options),
      })),
  },
  {
    name: "the convolution ignores its bias",
    ops: ["causalConv1d"],
    mutate: (b) =>
      breakFused(b, "causalConv1d", (op) => ({
        forward: (args, d, options) => op.forward({ ...args, bias: undefined }, { ...d, hasBias: false }, options),
      })),
  },
  {
    name: "rmsNorm's eps is zero",
    ops: ["rmsNorm"],
    mutate: (b) =>
      breakFused(b, "rmsNorm", (op) => ({
        forward: (args, d, options) => op.forward(args, { ...d, eps: 0 }, options),
      })),
  },
  {
    name: "the gate's gradient goes to the output",
    ops: ["gatedOutput"],
    mutate: (b) =>
      breakFused(b, "gatedOutput", (op) => ({
        backward: (...call) => {
          const grads = op.backward!(...call);
          return grads.z === undefined || grads.y === undefined ? grads : { ...grads, y: grads.z, z: grads.y };
        },
      })),
  },
  {
    name: "the long convolution wraps around",
    ops: ["fftConvolution"],
    mutate: (b) =>
      breakFused(b, "fftConvolution", (op) => ({
        forward: (args, d, options) =>
          op.forward(args, { ...d, size: 2 * Math.ceil(Math.max(d.length, d.taps) / 2) }, options),
      })),
  },
];
