/** A line of training.jsonl: the run's description, or one step. */
export interface LogLine {
  readonly step?: number;
  readonly loss?: number;
  readonly validation?: number;
  /** The schedule that the steps after this line follow. */
  readonly rescheduled?: object;
}

const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT] = [720, 360, 56, 44, 28, 16];

/** The loss of a run in bits per byte against steps, as an SVG: each step's, their running mean, and the held-out text's. */
export function lossPlot(lines: readonly LogLine[]): string {
  const steps = lines.filter(
    (l): l is { step: number; loss: number; validation?: number } => l.step !== undefined && l.loss !== undefined,
  );
  if (steps.length === 0) return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}"></svg>\n`;
  const raw = steps.map(({ step, loss }) => [step, loss / Math.LN2] as const);
  const validation = steps.flatMap(({ step, validation: v }) => (v === undefined ? [] : [[step, v] as const]));
  const maxStep = raw.at(-1)![0];
  const low = Math.floor(Math.min(...raw.map(([, y]) => y), ...validation.map(([, y]) => y)));
  const high = Math.ceil(Math.min(8, Math.max(...raw.map(([, y]) => y))));
  const x = (step: number): number => LEFT + ((WIDTH - LEFT - RIGHT) * step) / maxStep;
  const y = (bits: number): number => TOP + ((HEIGHT - TOP - BOTTOM) * (high - Math.min(high, bits))) / (high - low);
  const path = (points: readonly (readonly [number, number])[]): string =>
    points.map(([s, b], i) => `${i === 0 ? "M" : "L"}${x(s).toFixed(1)} ${y(b).toFixed(1)}`).join("");
  let mean = raw[0]![1];
  const smooth = raw.map(([step, bits]) => [step, (mean += 0.05 * (bits - mean))] as const);
  const grid = Array.from({ length: (high - low) * 2 + 1 }, (_, i) => low + i / 2);
  const ticks = Array.from({ length: 6 }, (_, i) => Math.round((maxStep * i) / 5));
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="system-ui, sans-serif" font-size="12">
<rect width="100%" height="100%" fill="white"/>
${grid.map((b) => `<path d="M${LEFT} ${y(b).toFixed(1)}H${WIDTH - RIGHT}" stroke="#e5e5e5"/><text x="${LEFT - 8}" y="${(y(b) + 4).toFixed(1)}" text-anchor="end" fill="#555">${b.toFixed(1)}</text>`).join("\n")}
${ticks.map((s) => `<text x="${x(s).toFixed(1)}" y="${HEIGHT - BOTTOM + 18}" text-anchor="middle" fill="#555">${s}</text>`).join("\n")}
<text x="${LEFT}" y="16" fill="#222">bits per byte</text><text x="${WIDTH - RIGHT}" y="${HEIGHT - 8}" text-anchor="end" fill="#222">step</text>
<path d="${path(raw)}" fill="none" stroke="#9ec5e8" stroke-width="0.7"/>
<path d="${path(smooth)}" fill="none" stroke="#1f6fb4" stroke-width="1.8"/>
<path d="${path(validation)}" fill="none" stroke="#d1495b" stroke-width="1.8"/>
${validation.map(([s, b]) => `<circle cx="${x(s).toFixed(1)}" cy="${y(b).toFixed(1)}" r="2.6" fill="#d1495b"/>`).join("")}
<text x="${WIDTH - RIGHT}" y="16" text-anchor="end"><tspan fill="#1f6fb4">training</tspan> <tspan fill="#d1495b">held out</tspan></text>
</svg>
`;
}
