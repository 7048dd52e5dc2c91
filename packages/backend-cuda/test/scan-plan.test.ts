import { describe, expect, test } from "vitest";
import { type Cut, costOf, cutFor, cutsOf, type Work } from "../src/fused/scan-plan.js";

const works: Work[] = [1, 2].flatMap((resident) =>
  [1, 48, 160, 384].flatMap((units) =>
    [1, 515, 2048, 131_073].flatMap((length) =>
      [true, false].flatMap((isRow) =>
        [true, false].map((isBackward) => ({ units, length, resident, multiprocessors: 132, isRow, isBackward })),
      ),
    ),
  ),
);

/** Where the chunks begin and end, as the kernels find it. */
const chunksOf = ({ chunks, chunkLength, shift }: Cut, length: number): [number, number][] =>
  Array.from({ length: chunks }, (_, c) => {
    const end = (c + 1) * chunkLength - shift;
    return [c === 0 ? 0 : end - chunkLength, Math.min(length, end)];
  });

describe("how the scan's length is cut", () => {
  test("the chunks cover it, in order, and begin where states are kept", () => {
    const wrong: string[] = [];
    for (const work of works)
      for (const cut of cutsOf(work)) {
        let at = 0;
        let isRight = cut.unsplit < work.units;
        for (const [from, to] of chunksOf(cut, work.length)) {
          isRight &&= from === at && from % 128 === 0 && to > from;
          at = to;
        }
        if (!isRight || at !== work.length) wrong.push(JSON.stringify({ work, cut }));
      }
    expect(wrong).toEqual([]);
  });

  test("many channels are not split; few are, into what fills the device", () => {
    const work: Work = { units: 264, length: 2048, resident: 2, multiprocessors: 132, isRow: true, isBackward: false };
    expect(cutFor(work).chunks).toBe(1);
    const few = { ...work, units: 48, length: 16_384 };
    const cut = cutFor(few);
    expect(cut.chunks * few.units).toBeGreaterThan(132);
    expect(costOf(cut, few)).toBeLessThan(0.6 * costOf({ chunks: 1, chunkLength: 16_384, shift: 0, unsplit: 0 }, few));
  });

  test("of blocks that do not fill the device evenly only those that are left over are split", () => {
    const work = { units: 160, length: 2048, multiprocessors: 132, isRow: true } as const;
    expect(cutFor({ ...work, resident: 2, isBackward: false }).unsplit).toBe(132);
    expect(cutFor({ ...work, resident: 1, isBackward: true }).unsplit).toBe(132);
    expect(cutFor({ ...work, resident: 1, isBackward: true, isRow: false }).unsplit).toBe(0);
  });
});
