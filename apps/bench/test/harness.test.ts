import { describe, expect, test } from "vitest";
import { leastMs, measure, type Subject, timesInTurn } from "../src/harness.js";
import { formatRow } from "../src/report.js";
import { quantile, summarize } from "../src/statistics.js";

describe("statistics", () => {
  test("the median of an odd and of an even number of values, in any order", () => {
    expect(summarize([5, 1, 3]).median).toBe(3);
    expect(summarize([4, 1, 3, 2]).median).toBe(2.5);
  });

  test("numbers are compared as numbers, and the input is left as it was", () => {
    const values = [10, 9, 100];
    expect(quantile(values, 0.5)).toBe(10);
    expect(values).toEqual([10, 9, 100]);
  });

  test("the interquartile range interpolates, and one outlier does not move it", () => {
    expect(summarize([1, 2, 3, 4]).iqr).toBeCloseTo(1.5);
    expect(summarize([1, 2, 3, 4, 5]).iqr).toBe(2);
    expect(summarize([1, 2, 3, 4, 1e9]).iqr).toBe(2);
  });

  test("quantiles reach the extremes; of nothing there are none", () => {
    expect([quantile([3, 1, 2], 0), quantile([3, 1, 2], 1)]).toEqual([1, 3]);
    expect(quantile([], 0.5)).toBeNaN();
  });
});

describe("runs in turn", () => {
  const recorder = (names: readonly string[]) => {
    const calls: string[] = [];
    const subjects = names.map((name): Subject => ({ name, run: () => void calls.push(name) }));
    return { calls, subjects };
  };

  test("interleaves the subjects and leaves the warm-up out", async () => {
    const { calls, subjects } = recorder(["a", "b"]);
    const summaries = await timesInTurn(subjects, { warmup: 1, runs: 3 });
    expect(calls.join("")).toBe("abababab");
    expect(summaries.map(({ runs }) => runs)).toEqual([3, 3]);
  });

  test("waits for each run", async () => {
    let running = 0;
    const run = async () => {
      expect(++running).toBe(1);
      await new Promise((done) => setTimeout(done, 1));
      running--;
    };
    await timesInTurn(
      [
        { name: "a", run },
        { name: "b", run },
      ],
      { warmup: 0, runs: 2 },
    );
    expect(running).toBe(0);
  });
});

describe("bounds", () => {
  test("the parts of the work add up", () => {
    expect(leastMs({ adds: 10, exps: 5 }, { adds: 1000, exps: 100 })).toBeCloseTo(10 + 50);
  });

  test("there is none if a rate is missing, or no work", () => {
    expect(leastMs({ adds: 10, exps: 5 }, { adds: 1000 })).toBeUndefined();
    expect(leastMs({}, { adds: 1000 })).toBeUndefined();
  });

  test("a row's fraction, rate and ratio follow from its medians", async () => {
    const wait = (ms: number) => () => new Promise<void>((done) => setTimeout(done, ms));
    const row = await measure(
      "a device",
      { warmup: 0, runs: 5 },
      {
        bench: "waiting",
        shape: "1",
        dtype: "float32",
        subject: { name: "ours", run: wait(2) },
        peers: [{ name: "theirs", run: wait(4) }],
        probes: [{ name: "probe", unit: "waits", work: 100, run: wait(1) }],
        work: { waits: 50 },
        makes: { unit: "rows", count: 3 },
        error: 0,
      },
    );
    const [peer, bound] = [row.peers[0]!, row.bound!];
    expect(peer.ratio).toBe(peer.ms / row.ms);
    expect(bound.ms).toBeCloseTo((50 / bound.rates["waits"]!) * 1000);
    expect(bound.fraction).toBe(bound.ms / row.ms);
    expect(row.rate.perSecond).toBe((3 / row.ms) * 1000);
    expect(formatRow(row)).toContain("peer theirs");
    expect(JSON.parse(JSON.stringify(row))).toEqual(row);
  });
});
