import { scaleOf } from "./scale.js";
import { escapeText, tickText } from "./text.js";

export interface Series {
  readonly name: string;
  readonly x: ArrayLike<number>;
  /** A value that is not finite leaves a gap. */
  readonly y: ArrayLike<number>;
  /** A line by default. */
  readonly style?: "line" | "dashed" | "points" | "steps";
}

export interface LinePlotOptions {
  readonly title: string;
  readonly xLabel: string;
  readonly yLabel: string;
  readonly series: readonly Series[];
  readonly logX?: boolean;
  readonly logY?: boolean;
  /** 720 and 320 by default. */
  readonly width?: number;
  readonly height?: number;
}

const colours = ["#1f6fb4", "#d1495b", "#2e8b57", "#c98a1b", "#6a4c93", "#444444"];
const [LEFT, RIGHT, TOP, BOTTOM] = [64, 16, 48, 44];

/** Lines over one pair of axes, as an SVG document. */
export function linePlot(options: LinePlotOptions): string {
  const { title, xLabel, yLabel, series, logX = false, logY = false, width = 720, height = 320 } = options;
  const all = (key: "x" | "y"): number[] => series.flatMap((s) => Array.from(s[key]));
  const [xs, ys] = [scaleOf(all("x"), logX), scaleOf(all("y"), logY)];
  const px = (x: number): number => LEFT + (width - LEFT - RIGHT) * xs.at(x);
  const py = (y: number): number => height - BOTTOM - (height - TOP - BOTTOM) * ys.at(y);
  const bottom = height - BOTTOM;
  const legend = series.map(
    ({ name }, i) =>
      `<tspan fill="${colours[i % colours.length]}" dx="${i === 0 ? 0 : 10}">${escapeText(name)}</tspan>`,
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" font-size="12" role="img">
<title>${escapeText(title)}</title>
<rect width="100%" height="100%" fill="white"/>
<text x="${LEFT}" y="18" font-weight="600" fill="#222">${escapeText(title)}</text>
<text x="${width - RIGHT}" y="36" text-anchor="end">${legend.join("")}</text>
<text x="${LEFT}" y="36" fill="#555">${escapeText(yLabel)}</text>
<text x="${width - RIGHT}" y="${height - 8}" text-anchor="end" fill="#555">${escapeText(xLabel)}</text>
${ys.ticks.map((v) => `<path d="M${LEFT} ${f(py(v))}H${width - RIGHT}" stroke="#e5e5e5"/><text x="${LEFT - 8}" y="${f(py(v) + 4)}" text-anchor="end" fill="#555">${tickText(v)}</text>`).join("\n")}
${xs.ticks.map((v) => `<path d="M${f(px(v))} ${TOP}V${bottom}" stroke="#f2f2f2"/><text x="${f(px(v))}" y="${bottom + 18}" text-anchor="middle" fill="#555">${tickText(v)}</text>`).join("\n")}
${series.map((s, i) => drawSeries(s, colours[i % colours.length]!, px, py)).join("\n")}
</svg>
`;
}

const f = (x: number): string => x.toFixed(1);

function drawSeries(
  { x, y, style = "line" }: Series,
  colour: string,
  px: (x: number) => number,
  py: (y: number) => number,
): string {
  if (style === "points")
    return Array.from(x, (v, i) =>
      Number.isFinite(py(y[i]!)) ? `<circle cx="${f(px(v))}" cy="${f(py(y[i]!))}" r="2.6" fill="${colour}"/>` : "",
    ).join("");
  let path = "";
  let pen = "M";
  for (let i = 0; i < x.length; i++) {
    const [a, b] = [px(x[i]!), py(y[i]!)];
    if (!Number.isFinite(a) || !Number.isFinite(b)) {
      pen = "M";
      continue;
    }
    path += style === "steps" && pen === "L" ? `H${f(a)}V${f(b)}` : `${pen}${f(a)} ${f(b)}`;
    pen = "L";
  }
  const dash = style === "dashed" ? ' stroke-dasharray="5 4"' : "";
  return `<path d="${path}" fill="none" stroke="${colour}" stroke-width="1.6"${dash}/>`;
}
