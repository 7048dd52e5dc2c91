import { decodeBytes, encodeBytes } from "@mamba-ts/byte-io";
import type { Mamba } from "@mamba-ts/mamba";
import { Rng } from "@mamba-ts/tensor";
import { evaluate, memoryTokens } from "@mamba-ts/train";
import type { Subwords } from "./models.js";

/** What can happen to a text; each changes about one word in ten, except case. */
export const noises: { readonly [name: string]: (text: string, rng: Rng) => string } = {
  "as it is": (text) => text,
  misspelt: (text, rng) =>
    everyWord(text, rng, 0.1, (word, u) => {
      const at = Math.floor(u * (word.length - 1));
      return word.length < 3 ? word : word.slice(0, at) + word[at + 1]! + word[at]! + word.slice(at + 2);
    }),
  "in capitals": (text) => text.toUpperCase(),
  "with stray spaces": (text, rng) =>
    everyWord(text, rng, 0.1, (word, u) => {
      const at = 1 + Math.floor(u * (word.length - 1));
      return word.length < 2 ? word : `${word.slice(0, at)} ${word.slice(at)}`;
    }),
  "without some spaces": (text, rng) => {
    const drawn = rng.uniform(text.length);
    return Array.from(text, (letter, i) => (letter === " " && drawn[i]! < 0.1 ? "" : letter)).join("");
  },
};

function everyWord(text: string, rng: Rng, share: number, change: (word: string, u: number) => string): string {
  return text.replace(/[A-Za-z]+/g, (word) => {
    const [chance, place] = rng.uniform(2) as unknown as [number, number];
    return chance < share ? change(word, place) : word;
  });
}

export interface Robustness {
  readonly noise: string;
  /** Bits per byte of the changed text. */
  readonly bytes: number;
  readonly subwords: number;
}

/** Bits per byte of a text and of what noise makes of it, for a byte model and a subword model. */
export async function robustness(bytes: Mamba, { model, encoding }: Subwords, text: Uint8Array): Promise<Robustness[]> {
  const rows: Robustness[] = [];
  for (const [noise, apply] of Object.entries(noises)) {
    const changed = encodeBytes(apply(decodeBytes(text), new Rng(7)));
    const ids = encoding.encode(changed);
    const own = await evaluate(bytes, memoryTokens(changed));
    const other = await evaluate(model, memoryTokens(ids), { bytesPerToken: changed.length / ids.length });
    rows.push({ noise, bytes: own.bitsPerByte, subwords: other.bitsPerByte });
  }
  return rows;
}

/** The rows as bars, as an SVG: what each noise adds. */
export function robustnessPicture(rows: readonly Robustness[]): string {
  const clean = rows[0]!;
  const added = rows.slice(1).map((r) => [r.noise, r.bytes - clean.bytes, r.subwords - clean.subwords] as const);
  const scale = 380 / Math.max(0.1, ...added.flatMap(([, a, b]) => [a, b]));
  const bar = (y: number, x: number, colour: string): string =>
    `<rect x="180" y="${y}" width="${Math.max(0, x * scale).toFixed(1)}" height="16" fill="${colour}"/><text x="${(186 + Math.max(0, x * scale)).toFixed(1)}" y="${y + 13}" fill="#333">${x >= 0 ? "+" : ""}${x.toFixed(2)}</text>`;
  const body = added.map(
    ([noise, a, b], i) =>
      `<text x="170" y="${82 + i * 56}" text-anchor="end">${noise}</text>${bar(60 + i * 56, a, "#1f6fb4")}${bar(78 + i * 56, b, "#d1893b")}`,
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" width="640" height="${70 + added.length * 56}" viewBox="0 0 640 ${70 + added.length * 56}" font-family="system-ui, sans-serif" font-size="13">
<title>What noise costs a byte model and a subword model</title>
<rect width="100%" height="100%" fill="white"/>
<text x="20" y="22" fill="#222">bits per byte that noise adds; as it is: <tspan fill="#1f6fb4">bytes ${clean.bytes.toFixed(2)}</tspan>, <tspan fill="#d1893b">subwords ${clean.subwords.toFixed(2)}</tspan></text>
${body.join("\n")}
</svg>
`;
}
