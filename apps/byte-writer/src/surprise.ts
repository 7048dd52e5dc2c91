import type { Mamba } from "@mamba-ts/mamba";
import { linearCrossEntropy, reshape, scope, tensor } from "@mamba-ts/tensor";

/** Bits of surprise at every byte of a text: -log2 of what the model gave it. The first byte, which nothing comes before, has none. */
export async function surprise(model: Mamba, text: Uint8Array): Promise<Float64Array> {
  const nats = scope(() => {
    const { hidden } = model.forward([text.subarray(0, -1)], { logits: "none" });
    const rows = reshape(hidden, [text.length - 1, hidden.shape[2]!]);
    return linearCrossEntropy(rows, model.headWeight, tensor(model.backend, Int32Array.from(text.subarray(1))));
  });
  const bits = Float64Array.from(await nats.data(), (x) => x / Math.LN2);
  nats.dispose();
  return Float64Array.of(0, ...bits);
}

const [COLUMNS, CELL, LINE] = [72, 8.6, 20];

/** A text whose letters stand on the darker a ground the more surprising they were, as an SVG. */
export function surprisePicture(text: Uint8Array, bits: Float64Array): string {
  const cells: string[] = [];
  let [row, column] = [0, 0];
  // Words are not broken; line breaks of the text count as spaces.
  const starts = Array.from(
    text,
    (byte, i) => i > 0 && byte !== 32 && byte !== 10 && (text[i - 1] === 32 || text[i - 1] === 10),
  );
  for (let i = 0; i < text.length; i++) {
    if (starts[i]) {
      let end = i;
      while (end < text.length && text[end] !== 32 && text[end] !== 10) end++;
      if (column + end - i > COLUMNS) [row, column] = [row + 1, 0];
    }
    const shade = Math.min(1, bits[i]! / 10);
    const [x, y] = [20 + column * CELL, 50 + row * LINE];
    if (shade > 0.02)
      cells.push(
        `<rect x="${x.toFixed(1)}" y="${y - 14}" width="${CELL}" height="${LINE - 2}" fill="rgb(214,69,65)" fill-opacity="${(0.85 * shade).toFixed(2)}"/>`,
      );
    const byte = text[i]!;
    if (byte > 32) {
      const letter = byte < 127 ? String.fromCharCode(byte) : "\u00b7";
      const safe = { "&": "&amp;", "<": "&lt;", ">": "&gt;" }[letter] ?? letter;
      cells.push(`<text x="${x.toFixed(1)}" y="${y}">${safe}</text>`);
    }
    column++;
    if (column >= COLUMNS) [row, column] = [row + 1, 0];
  }
  const [width, height] = [40 + COLUMNS * CELL, 70 + row * LINE];
  const mean = bits.subarray(1).reduce((a, b) => a + b, 0) / (bits.length - 1);
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width.toFixed(0)}" height="${height}" viewBox="0 0 ${width.toFixed(0)} ${height}" font-family="ui-monospace, monospace" font-size="14">
<title>Surprise of every byte of a text</title>
<rect width="100%" height="100%" fill="white"/>
<text x="20" y="24" font-family="system-ui, sans-serif" font-size="13" fill="#444">surprise of every byte, from 0 to 10 bits; ${mean.toFixed(2)} bits on average</text>
${cells.join("\n")}
</svg>
`;
}
