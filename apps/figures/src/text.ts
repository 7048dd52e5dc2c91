/** Text that means the same inside SVG and HTML. */
export function escapeText(text: string): string {
  return text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]!);
}

/** A number as short as an axis wants it. */
export function tickText(x: number): string {
  if (x === 0) return "0";
  return Math.abs(x) >= 1e5 || Math.abs(x) < 1e-3
    ? x.toExponential(0).replace("e+", "e")
    : String(Number(x.toPrecision(4)));
}
