import { escapeText } from "./text.js";

export interface HeatMapOptions {
  readonly title: string;
  /** Row by row. */
  readonly values: readonly ArrayLike<number>[];
  readonly rowLabel: string;
  readonly columnLabel: string;
  /** Width of a cell in pixels; 12 by default. */
  readonly cell?: number;
}

/** A matrix as coloured cells, blue below 0, white at 0, red above, as an SVG document. */
export function heatMap({ title, values, rowLabel, columnLabel, cell = 12 }: HeatMapOptions): string {
  const columns = Math.max(0, ...values.map((row) => row.length));
  const largest =
    values.reduce((m, row) => Math.max(m, ...Array.from(row, (v) => (Number.isFinite(v) ? Math.abs(v) : 0))), 0) || 1;
  const [left, top] = [24, 48];
  const [width, height] = [Math.max(320, left + columns * cell + 16), top + values.length * cell + 28];
  const cells = values.flatMap((row, i) =>
    Array.from(
      row,
      (v, j) =>
        `<rect x="${left + j * cell}" y="${top + i * cell}" width="${cell}" height="${cell}" fill="${colour(v / largest)}"/>`,
    ),
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" font-size="12" role="img">
<title>${escapeText(title)}</title>
<rect width="100%" height="100%" fill="white"/>
<text x="${left}" y="18" font-weight="600" fill="#222">${escapeText(title)}</text>
<text x="${left}" y="38" fill="#555">${escapeText(rowLabel)} down, ${escapeText(columnLabel)} across</text>
${cells.join("\n")}
</svg>
`;
}

/** A value in [-1, 1]; grey where there is none. */
function colour(v: number): string {
  if (!Number.isFinite(v)) return "#bbbbbb";
  const fade = Math.round(255 * (1 - Math.sqrt(Math.abs(v))));
  return v >= 0 ? `rgb(255,${fade},${fade})` : `rgb(${fade},${fade},255)`;
}
