/** What the page draws. */
import type { LayerSelection } from "./protocol.js";

/** 1536 as "1.5 KiB". */
export function showBytes(n: number): string {
  const units = ["B", "KiB", "MiB", "GiB"];
  let [value, unit] = [n, 0];
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

/** A loss curve that is redrawn as points come, and scaled to them. */
export class LossCurve {
  #points: number[] = [];
  constructor(readonly svg: SVGSVGElement) {}

  clear(): void {
    this.#points = [];
    this.svg.replaceChildren();
  }

  add(loss: number): void {
    this.#points.push(loss);
    const top = Math.max(...this.#points);
    const bottom = Math.min(...this.#points, top - 1e-3);
    const xy = this.#points.map(
      (l, i) =>
        `${((600 * i) / Math.max(1, this.#points.length - 1)).toFixed(1)},${(155 - (150 * (l - bottom)) / (top - bottom)).toFixed(1)}`,
    );
    const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
    line.setAttribute("points", xy.join(" "));
    this.svg.replaceChildren(line);
  }
}

/** The text, each token shaded by delta and underlined by its gate. */
export function drawSelection(into: HTMLElement, tokens: readonly string[], { delta, gate }: LayerSelection): void {
  const [mostDelta, mostGate] = [Math.max(...delta), Math.max(...gate)];
  into.replaceChildren(
    ...tokens.map((token, i) => {
      const span = document.createElement("span");
      span.textContent = token === "\n" ? "↵ " : token;
      span.style.background = `rgb(220 120 20 / ${(delta[i]! / mostDelta).toFixed(3)})`;
      span.style.borderBottomColor = `rgb(40 90 220 / ${(gate[i]! / mostGate).toFixed(3)})`;
      span.title = `delta ${delta[i]!.toFixed(4)}, gate ${gate[i]!.toFixed(4)}`;
      return span;
    }),
  );
}
