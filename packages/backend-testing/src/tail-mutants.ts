/**
 * Mutants made for whatever a backend has: every result of every primitive, every output and every gradient of every fused op, each wrong in
 * its last element alone, as a kernel's is that forgets the tail of its loop.
 */
import type { AdamWOp, Backend, Buf } from "@mamba-ts/backend";
import type { OpCase } from "./case.js";
import { override } from "./composed-only.js";
import type { Mutant } from "./mutants.js";
import { exercise } from "./support-matrix.js";

const primitives = [
  ...["fill", "copy", "cast", "unary", "binary", "compare", "where", "reduce", "argReduce", "matmul"],
  ...["gather", "scatterAdd", "pad", "concat", "linearScan"],
] as const;

/** Where a result comes from: `["matmul"]`, `["rmsNorm", "output", "sum"]`, `["rmsNorm", "gradient", "x"]`. */
type Place = readonly [op: string, kind?: "output" | "gradient", name?: string];

/** Sees every buffer a backend's operations return, and where it comes from. */
type Visit = (place: Place, buf: Buf) => void;

/** The same backend, with `visit` called on what comes out of its operations. Storage is left alone. */
function visited(backend: Backend, visit: Visit): Backend {
  const members: { [name: string]: unknown } = {};
  for (const name of primitives) {
    const original = (backend[name as keyof Backend] as (...args: unknown[]) => Buf).bind(backend);
    members[name] = (...args: unknown[]): Buf => {
      const buf = original(...args);
      visit([name], buf);
      return buf;
    };
  }
  members["fused"] = Object.fromEntries(
    Object.entries(backend.fused ?? {}).map(([name, op]) => [name, visitedOp(name, op as AnyOp, visit)]),
  );
  return override(backend, members as Partial<Backend>);
}

interface AnyOp {
  supports(descriptor: unknown): unknown;
  forward(...args: unknown[]): { readonly outputs: { readonly [name: string]: Buf | undefined } };
  backward?(...args: unknown[]): { readonly [name: string]: Buf | undefined };
}

function visitedOp(name: string, op: AnyOp, visit: Visit): object {
  const seen = (kind: "output" | "gradient", bufs: { readonly [name: string]: Buf | undefined }): void => {
    for (const [key, buf] of Object.entries(bufs)) if (buf !== undefined) visit([name, kind, key], buf);
  };
  if (name === "adamw") {
    const adamw = op as unknown as AdamWOp;
    return override(adamw, {
      forward: (args, d) => {
        adamw.forward(args, d);
        seen("output", Object.fromEntries((["param", "m", "v"] as const).map((key) => [key, args[key].at(-1)?.buf])));
      },
    });
  }
  return override(op, {
    forward: (...args) => {
      const result = op.forward(...args);
      seen("output", result.outputs);
      return result;
    },
    ...(op.backward === undefined
      ? {}
      : {
          backward: (...args: unknown[]) => {
            const gradients = op.backward!(...args);
            seen("gradient", gradients);
            return gradients;
          },
        }),
  });
}

/** Writes a wrong number over the last element; false where there is none, or its type has no array in JavaScript. */
function scribble(backend: Backend, buf: Buf): boolean {
  const arrays = { float32: Float32Array, float64: Float64Array, int32: Int32Array } as const;
  const Numbers = arrays[buf.dtype as keyof typeof arrays];
  if (Numbers === undefined || buf.count === 0) return false;
  backend.write(buf, Numbers.of(7), buf.count - 1);
  return true;
}

/** A mutant for every place that the cases reach in this backend. */
export function tailMutants(backend: Backend, cases: readonly OpCase[]): Mutant[] {
  const places = new Map<string, { readonly place: Place; readonly ops: Set<string> }>();
  for (const opCase of cases) {
    const watched = visited(backend, (place, buf) => {
      if (!["float32", "float64", "int32"].includes(buf.dtype) || buf.count === 0) return;
      // A primitive is everywhere; what should notice is a case of its own.
      if (place.length === 1 && !ownCase(place[0], opCase.op)) return;
      if (place.length > 1 && place[0] !== opCase.op) return;
      const key = place.join(" ");
      const found = places.get(key) ?? { place, ops: new Set() };
      places.set(key, found);
      found.ops.add(opCase.op);
    });
    exercise(opCase, watched);
  }
  return [...places.values()].map(({ place: [op, kind, name], ops }) => ({
    name: `${op}${kind === undefined ? "" : `'s ${kind} ${name}`}: the last element is wrong`,
    ops: [...ops],
    mutate: (b) =>
      visited(b, (at, buf) => {
        if (at[0] === op && at[1] === kind && at[2] === name) scribble(b, buf);
      }),
  }));
}

/** Cases of families are named after the member, as `exp` for `unary`. */
function ownCase(primitive: string, op: string): boolean {
  const families: { readonly [primitive: string]: readonly string[] } = {
    unary: ["exp", "sigmoid", "neg"],
    binary: ["add", "mul", "sub"],
    compare: ["le", "lt", "eq"],
    reduce: ["sum", "max"],
  };
  return (families[primitive] ?? [primitive]).includes(op);
}
