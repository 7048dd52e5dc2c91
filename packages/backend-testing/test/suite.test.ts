/** The suite itself: what it must notice, and what it must say. */
import type { Backend } from "@mamba-ts/backend";
import { createCpuBackend } from "@mamba-ts/backend-cpu";
import {
  allCases,
  benchBackend,
  benchCases,
  composedOnly,
  formatBench,
  formatMatrix,
  mutants,
  relativeError,
  runCase,
  supportMatrix,
  survivors,
  tailMutants,
} from "@mamba-ts/backend-testing/cases";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

let backend: Backend;
beforeEach(() => {
  backend = createCpuBackend();
});
afterEach(() => {
  expect(backend.memory().liveBuffers).toBe(0);
  backend[Symbol.dispose]();
});

const scan = allCases.find((c) => c.op === "selectiveScan")!;

/** A backend whose member `name` does something else. */
function broken<K extends keyof Backend>(name: K, member: Backend[K]): Backend {
  return new Proxy(backend, { get: (target, key) => (key === name ? member : Reflect.get(target, key, target)) });
}

describe("every fused op of the interface", () => {
  test.each([
    ...["selectiveScan", "causalConv1d", "mambaStep", "gatedOutput", "rmsNorm", "layerNorm", "linearCrossEntropy"],
    ...["attention", "kvAppend", "moe", "linear", "fft", "adamw", "sample"],
  ])("%s has cases", (op) => {
    expect(allCases.filter((c) => c.op === op).length).toBeGreaterThan(1);
  });
});

describe("mutants", () => {
  test("a suite without cases rejects none of them", async () => {
    const { survivors: alive, tried } = await survivors(backend, []);
    expect(tried).toBeGreaterThan(10);
    expect(alive.length).toBe(tried);
  });

  test("one is made for every output and every gradient of every kernel", () => {
    const names = tailMutants(backend, allCases).map((m) => m.name);
    for (const place of [
      "matmul:",
      "linearScan:",
      "selectiveScan's output finalState:",
      "selectiveScan's gradient initialState:",
      "kvAppend's output cache:",
      "adamw's output v:",
      "sample's output token:",
    ])
      expect(names).toContain(`${place} the last element is wrong`);
    expect(new Set(names).size).toBe(names.length);
  });

  test("without kernels those of primitives are left", async () => {
    const bare = composedOnly(backend);
    const made = tailMutants(bare, allCases);
    expect(made.length).toBeGreaterThanOrEqual(15);
    expect(await survivors(bare, allCases, "float64", [...mutants, ...made])).toMatchObject({ survivors: [] });
  });
});

describe("modes", () => {
  test("each notices its own kind of fault only", async () => {
    const faults: Record<string, Backend> = {
      forward: broken("unary", (op, x) => backend.unary(op === "exp" ? "sigmoid" : op, x)),
      leak: broken("free", () => {}),
    };
    const exp = allCases.find((c) => c.op === "exp")!;
    expect((await runCase(exp, faults["forward"]!, { modes: ["forward"] })).map((f) => f.what)).toEqual(["y"]);
    expect(await runCase(exp, faults["forward"]!, { modes: ["leak"] })).toEqual([]);

    const kept: Parameters<Backend["free"]>[0][] = [];
    const leaking = broken("free", (buf) => void kept.push(buf));
    expect(await runCase(exp, leaking, { modes: ["forward", "gradient"] })).toEqual([]);
    expect((await runCase(exp, leaking, { modes: ["forward", "leak"] })).map((f) => f.what)).toEqual(["leak"]);
    for (const buf of kept) backend.free(buf);
  });

  test("what a kernel does not write is NaN, not what was there", async () => {
    // Memory comes back as it was left; this fill forgets all but the first element.
    const free: { [count: number]: ReturnType<Backend["fill"]>[] } = {};
    const lazy = new Proxy(backend, {
      get(target, key) {
        if (key === "free") return (buf: ReturnType<Backend["fill"]>) => void (free[buf.count] ??= []).push(buf);
        if (key === "copy")
          return (view: Parameters<Backend["copy"]>[0]) => {
            const count = view.shape.reduce((a, b) => a * b, 1);
            return free[count]?.pop() ?? target.copy(view);
          };
        return Reflect.get(target, key, target);
      },
    });
    const copy = allCases.find((c) => c.op === "copy")!;
    expect((await runCase(copy, lazy, { modes: ["forward"] })).length).toBeGreaterThan(0);
    for (const bufs of Object.values(free)) for (const buf of bufs) backend.free(buf);
  });

  test("bench: a row per operation and direction, beside a bound", async () => {
    const few = benchCases.filter((c) => c.op === "rmsNorm" || c.op === "matmul");
    const rows = await benchBackend(backend, { cases: few, runs: 1 });
    expect(rows.map((r) => `${r.op} ${r.direction} ${r.how}`)).toEqual([
      "matmul forward primitive",
      "matmul with gradient primitive",
      "rmsNorm forward fused",
      "rmsNorm with gradient fused",
    ]);
    for (const row of rows) expect([row.seconds > 0, row.bound > 0]).toEqual([true, true]);
    expect(rows[2]!.composedRatio).toBeGreaterThan(0);
    expect(formatBench(rows).split("\n")).toHaveLength(4);
  });

  test("support matrix: fused and composed by op and direction", () => {
    const rows = supportMatrix(composedOnly(backend), [scan]);
    expect(rows.every((r) => r.fused === 0 && r.composed > 0)).toBe(true);
    expect(formatMatrix(rows)).toMatch(/^selectiveScan +backward +composed\nselectiveScan +forward +composed$/);
  });
});

test("relative error: the norm of the difference over the norm, NaN only where NaN is meant", () => {
  expect(relativeError([3, 4], [3, 4])).toBe(0);
  expect(relativeError([3, 4.5], [3, 4])).toBeCloseTo(0.1);
  expect(relativeError([Number.NaN], [1])).toBe(Number.POSITIVE_INFINITY);
  expect(relativeError([Number.NaN, 1], [Number.NaN, 1])).toBe(0);
  expect(relativeError([1], [1, 2])).toBe(Number.POSITIVE_INFINITY);
  expect(relativeError([1e-9], [0])).toBe(Number.POSITIVE_INFINITY);
});
