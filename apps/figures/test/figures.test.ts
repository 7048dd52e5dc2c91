import { tmpdir } from "node:os";
import { expect, it } from "vitest";
import { commitOf, escapeText, heatMap, linePlot } from "../src/index.js";

it("draws every series inside its axes, with gaps where there is no value", () => {
  const svg = linePlot({
    title: "a < b",
    xLabel: "x",
    yLabel: "y",
    series: [
      { name: "one", x: [0, 1, 2, 3], y: [0, 5, Number.NaN, 2] },
      { name: "two", x: [0, 3], y: [1, 4], style: "points" },
      { name: "three", x: [0, 3], y: [1, 4], style: "steps" },
    ],
  });
  expect(svg).toContain("a &lt; b");
  expect(svg.match(/<circle/g)).toHaveLength(2);
  expect(svg).toMatch(/d="M64\.0 276\.0L277\.3 48\.0M704\.0 184\.8"/); // 720 x 320 less the margins
  expect(svg).not.toContain("NaN");
});

it("has decades on logarithmic axes, and survives a constant and nothing", () => {
  const plot = (y: number[], logY: boolean) =>
    linePlot({ title: "", xLabel: "", yLabel: "", logY, series: [{ name: "", x: [1, 2], y }] });
  expect(plot([0.5, 300], true)).toContain(">0.1<");
  expect(plot([0.5, 300], true)).toContain(">1000<");
  expect(plot([2, 2], false)).not.toContain("NaN");
  expect(() => plot([Number.NaN, Number.NaN], false)).toThrow(RangeError);
});

it("colours a matrix by sign and size", () => {
  const svg = heatMap({ title: "", values: [[-1, 0, 1]], rowLabel: "r", columnLabel: "c" });
  expect(svg).toContain("rgb(0,0,255)");
  expect(svg).toContain("rgb(255,255,255)");
  expect(svg).toContain("rgb(255,0,0)");
  expect(escapeText('"&')).toBe("&quot;&amp;");
});

it("a folder that is in no clone has no commit", () => {
  expect(commitOf(tmpdir())).toBe("unknown");
});
