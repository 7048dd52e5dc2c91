import type { Result, Settings } from "./experiment.js";

const names = { jamba: "Jamba", mamba: "pure Mamba", attention: "pure attention" };

/** Recall against depth and length, a panel per model, as an SVG heat map. */
export function heatMap(results: readonly Result[], { lengths, depths, length, facts }: Settings): string {
  const [cell, left, top, gap] = [40, 60, 66, 30];
  const panel = depths.length * cell;
  const width = left + results.length * (panel + gap);
  const height = top + lengths.length * cell + 46;
  const panels = results.map(({ kind, parameters, accuracy }, p) => {
    const x0 = left + p * (panel + gap);
    const cells = accuracy.flatMap((row, l) =>
      row.map((a, d) => {
        const [x, y] = [x0 + d * cell, top + l * cell];
        return `<rect x="${x}" y="${y}" width="${cell - 2}" height="${cell - 2}" fill="hsl(${Math.round(120 * a)},55%,${Math.round(78 - 18 * a)}%)"/><text x="${x + cell / 2 - 1}" y="${y + 24}" text-anchor="middle" fill="#222">${Math.round(100 * a)}</text>`;
      }),
    );
    const axis = depths.map(
      (d, i) =>
        `<text x="${x0 + i * cell + cell / 2 - 1}" y="${top + lengths.length * cell + 16}" text-anchor="middle" fill="#555">${d}</text>`,
    );
    return `<text x="${x0}" y="${top - 12}" fill="#222">${names[kind]}, ${parameters.toLocaleString("en-US")} parameters</text>${cells.join("")}${axis.join("")}`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" font-size="12">
<title>Recall of planted facts by length and depth</title>
<rect width="100%" height="100%" fill="white"/>
<text x="16" y="24" fill="#222">% of planted facts recalled, ${facts} in a page of a book; trained on pages of ${length} bytes</text>
${lengths.map((n, l) => `<text x="${left - 8}" y="${top + l * cell + 24}" text-anchor="end" fill="#555">${n}</text>`).join("")}
${panels.join("\n")}
<text x="${left}" y="${height - 8}" fill="#555">rows: bytes; columns: where the fact lies, from the beginning (0) to just before the question (1)</text>
</svg>
`;
}
