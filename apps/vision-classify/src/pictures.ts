import type { Picture } from "@mamba-ts/vision-mamba/images";
import type { Segmentation } from "./segment.js";

/** How often each class was taken for each other, as an SVG. */
export function confusionPicture(counts: readonly (readonly number[])[], classes: readonly string[]): string {
  const [cell, left, top] = [44, 110, 70];
  const n = classes.length;
  const [width, height] = [left + n * cell + 20, top + n * cell + 40];
  const total = counts.flat().reduce((a, b) => a + b, 0);
  const right = counts.reduce((s, row, i) => s + row[i]!, 0);
  const cells = counts.flatMap((row, r) => {
    const sum = Math.max(
      1,
      row.reduce((a, b) => a + b, 0),
    );
    return row.map((count, c) => {
      const shade = count / sum;
      const [x, y] = [left + c * cell, top + r * cell];
      return `<rect x="${x}" y="${y}" width="${cell - 2}" height="${cell - 2}" fill="${r === c ? "rgb(31,111,180)" : "rgb(214,69,65)"}" fill-opacity="${(r === c ? 0.85 * shade : Math.min(1, 4 * shade)).toFixed(3)}" stroke="#ddd"/>${count === 0 ? "" : `<text x="${x + cell / 2 - 1}" y="${y + 26}" text-anchor="middle" fill="${r === c && shade > 0.5 ? "white" : "#222"}">${count}</text>`}`;
    });
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" font-size="12">
<title>Confusion matrix</title>
<rect width="100%" height="100%" fill="white"/>
<text x="16" y="24" fill="#222">${right} of ${total} test pictures right, ${((100 * right) / total).toFixed(1)} %; rows: what it is, columns: what was said</text>
${classes.map((name, i) => `<text x="${left - 8}" y="${top + i * cell + 26}" text-anchor="end">${name}</text><text x="${left + i * cell + cell / 2 - 1}" y="${top - 8}" text-anchor="middle">${name.slice(0, 6)}</text>`).join("\n")}
${cells.join("\n")}
</svg>
`;
}

/** The pixels of a picture as squares, `side` pixels wide in all. */
function dotsOf({ width, height, channels, data }: Picture, x0: number, y0: number, side: number): string {
  const pixel = side / Math.max(width, height);
  const dots: string[] = [`<rect x="${x0}" y="${y0}" width="${side}" height="${side}" fill="black"/>`];
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const value = (c: number): number =>
        Math.round(255 * data[(Math.min(c, channels - 1) * height + y) * width + x]!);
      const [r, g, b] = [value(0), value(1), value(2)];
      if (r + g + b > 36)
        dots.push(
          `<rect x="${(x0 + x * pixel).toFixed(1)}" y="${(y0 + y * pixel).toFixed(1)}" width="${(pixel + 0.2).toFixed(1)}" height="${(pixel + 0.2).toFixed(1)}" fill="rgb(${r},${g},${b})"/>`,
        );
    }
  return dots.join("");
}

/** What was shown, what it was, and what was said, for a few pictures, as an SVG. */
export function segmentationPicture({ shown, iou, baseline }: Segmentation, most = 8): string {
  const [cell, side] = [76, 64];
  const some = shown.slice(0, most);
  const tiles = some.flatMap(({ picture, mask, said }, i) =>
    [picture, ...[mask, said].map((data) => ({ ...picture, channels: 1, data }))].map((p, row) =>
      dotsOf(p, 110 + i * cell, 40 + row * cell, side),
    ),
  );
  const names = ["under noise", "its mask", "what was said"];
  const [width, height] = [120 + some.length * cell, 50 + 3 * cell];
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" font-size="12">
<title>Segmentation</title>
<rect width="100%" height="100%" fill="white"/>
<text x="16" y="24" fill="#222">intersection over union ${iou.toFixed(3)} on ${shown.length} test pictures; of calling everything the thing ${baseline.toFixed(3)}</text>
${names.map((name, row) => `<text x="100" y="${76 + row * cell}" text-anchor="end" fill="#222">${name}</text>`).join("\n")}
${tiles.join("\n")}
</svg>
`;
}

/** Pictures that were taken for something else, with what they are and what was said, as an SVG. */
export function mistakesPicture(
  pictures: readonly Picture[],
  labels: Int32Array,
  said: Int32Array,
  classes: readonly string[],
  most = 24,
): string {
  const wrong = Array.from(labels.keys())
    .filter((i) => labels[i] !== said[i])
    .slice(0, most);
  const [cell, columns] = [84, 8];
  const rows = Math.max(1, Math.ceil(wrong.length / columns));
  const tiles = wrong.map((i, k) => {
    const [x0, y0] = [16 + (k % columns) * cell, 44 + Math.floor(k / columns) * (cell + 16)];
    return `${dotsOf(pictures[i]!, x0, y0, 64)}<text x="${x0 + 32}" y="${y0 + 80}" text-anchor="middle"><tspan fill="#222">${classes[labels[i]!]}</tspan><tspan fill="#d64541"> ${classes[said[i]!]}</tspan></text>`;
  });
  const [width, height] = [24 + columns * cell, 60 + rows * (cell + 16)];
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" font-size="12">
<title>Mistakes</title>
<rect width="100%" height="100%" fill="white"/>
<text x="16" y="24" fill="#222">the first ${wrong.length} mistakes: what it is, <tspan fill="#d64541">what was said</tspan></text>
${tiles.join("\n")}
</svg>
`;
}
