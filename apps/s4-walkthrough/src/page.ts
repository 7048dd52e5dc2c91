import { escapeText } from "@mamba-ts/app-figures";

/** One step of the walk. */
export interface Step {
  readonly title: string;
  /** Paragraphs of plain text; a line that starts with two spaces is a formula. */
  readonly text: readonly string[];
  /** SVG documents. */
  readonly figures: readonly string[];
  /** Rows of a table, the first one its head. */
  readonly table?: readonly (readonly string[])[];
}

/** All steps as one HTML document that needs nothing else. */
export function page(steps: readonly Step[]): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>From a continuous system to selection</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 760px; margin: 2rem auto; padding: 0 1rem; color: #222; }
pre { background: #f6f6f6; padding: 0.6rem 1rem; overflow-x: auto; }
svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; } td, th { padding: 0.2rem 0.9rem 0.2rem 0; text-align: left; border-bottom: 1px solid #ddd; }
</style>
</head>
<body>
<h1>From a continuous system to selection</h1>
${steps.map((step, i) => section(step, i + 1)).join("\n")}
</body>
</html>
`;
}

function section({ title, text, figures, table }: Step, number: number): string {
  const paragraphs = text.map((line) =>
    line.startsWith("  ") ? `<pre>${escapeText(line.trim())}</pre>` : `<p>${escapeText(line)}</p>`,
  );
  const [head, ...rows] = table ?? [];
  const cells = (row: readonly string[], tag: string): string =>
    `<tr>${row.map((c) => `<${tag}>${escapeText(c)}</${tag}>`).join("")}</tr>`;
  const drawn =
    head === undefined ? "" : `<table>${cells(head, "th")}${rows.map((r) => cells(r, "td")).join("")}</table>`;
  return `<h2>${number}. ${escapeText(title)}</h2>\n${paragraphs.join("\n")}\n${figures.join("\n")}\n${drawn}`;
}
