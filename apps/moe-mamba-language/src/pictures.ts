import type { Run } from "./experiment.js";

const colours = ["#1f6fb4", "#d1893b", "#3a8f5c", "#8a5bb0"];

/** Running means of the losses, as an SVG. */
export function lossPicture(runs: readonly Run[]): string {
  const [width, height, left, bottom, top] = [720, 360, 56, 40, 30];
  const smooth = runs.map(({ losses }) => {
    let mean = losses[0] ?? 0;
    return losses.map((x) => (mean += 0.1 * (x - mean)));
  });
  const all = smooth.flat();
  const [low, high] = [Math.floor(2 * Math.min(...all)) / 2, Math.min(6, Math.ceil(2 * Math.max(...all)) / 2)];
  const steps = Math.max(...smooth.map((s) => s.length));
  const x = (i: number): number => left + ((width - left - 16) * i) / Math.max(1, steps - 1);
  const y = (v: number): number => top + ((height - top - bottom) * (high - Math.min(high, v))) / (high - low);
  const grid = Array.from({ length: Math.round((high - low) * 2) + 1 }, (_, i) => low + i / 2);
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" font-size="12">
<title>Loss with and without experts</title>
<rect width="100%" height="100%" fill="white"/>
${grid.map((v) => `<path d="M${left} ${y(v).toFixed(1)}H${width - 16}" stroke="#e5e5e5"/><text x="${left - 8}" y="${(y(v) + 4).toFixed(1)}" text-anchor="end" fill="#555">${v.toFixed(1)}</text>`).join("\n")}
${smooth.map((s, r) => `<path d="${s.map((v, i) => `${i === 0 ? "M" : "L"}${x(i).toFixed(1)} ${y(v).toFixed(1)}`).join("")}" fill="none" stroke="${colours[r]}" stroke-width="1.8"/>`).join("\n")}
<text x="${left}" y="18" fill="#222">bits per byte ${runs.map((run, r) => `<tspan dx="14" fill="${colours[r]}">${run.nExperts === 1 ? "dense" : `${run.nExperts} experts`}: held out ${run.heldOutBitsPerByte.toFixed(3)}</tspan>`).join("")}</text>
<text x="${width - 16}" y="${height - 10}" text-anchor="end" fill="#222">step, of ${steps}</text>
</svg>
`;
}

/** Where the tokens of every layer went, as an SVG: the darker the more; even would be all alike. */
export function loadPicture({ load, nExperts, dropped }: Run): string {
  const [cell, left, top] = [34, 70, 50];
  const [width, height] = [left + nExperts * cell + 20, top + load.length * cell + 20];
  const cells = load.flatMap((row, l) =>
    row.map((share, e) => {
      const shade = Math.min(1, (share * nExperts) / 3);
      return `<rect x="${left + e * cell}" y="${top + l * cell}" width="${cell - 2}" height="${cell - 2}" fill="rgb(31,111,180)" fill-opacity="${shade.toFixed(3)}" stroke="#ccc"/><text x="${left + e * cell + cell / 2 - 1}" y="${top + l * cell + 21}" text-anchor="middle" fill="${shade > 0.55 ? "white" : "#333"}">${(100 * share).toFixed(0)}</text>`;
    }),
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" font-size="12">
<title>Where the tokens went</title>
<rect width="100%" height="100%" fill="white"/>
<text x="16" y="22" fill="#222">% of tokens per expert; ${(100 * dropped).toFixed(1)} % find their expert full</text>
${load.map((_, l) => `<text x="${left - 8}" y="${top + l * cell + 21}" text-anchor="end" fill="#555">layer ${l}</text>`).join("\n")}
${cells.join("\n")}
</svg>
`;
}
