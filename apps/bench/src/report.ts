import type { Row } from "./harness.js";

/** A row for people. */
export function formatRow(row: Row): string {
  const { bound, peers, rate } = row;
  const lines = [
    `${row.bench}  ${row.shape}  ${row.dtype}  (relative error ${row.error.toExponential(1)})`,
    `  ${row.subject}: ${ms(row.ms)} (IQR ${ms(row.iqrMs)}, ${row.runs} runs), ${short(rate.perSecond)} ${rate.unit}/s`,
    bound === undefined
      ? "  bound: this device has no probes"
      : `  bound: ${ms(bound.ms)}, reached ${(100 * bound.fraction).toFixed(0)}% (${formatRates(bound.rates)})`,
    ...peers.map(
      (peer) => `  peer ${peer.name}: ${ms(peer.ms)} (IQR ${ms(peer.iqrMs)}), ratio ${peer.ratio.toFixed(2)}`,
    ),
  ];
  return lines.join("\n");
}

function formatRates(rates: { readonly [unit: string]: number }): string {
  return Object.entries(rates)
    .map(([unit, rate]) => `${short(rate)} ${unit}/s`)
    .join(", ");
}

function ms(x: number): string {
  return `${x.toFixed(x < 10 ? 3 : 1)} ms`;
}

/** 1.23 G, 45.6 M, 789 k */
export function short(x: number): string {
  for (const [size, letter] of [
    [1e9, " G"],
    [1e6, " M"],
    [1e3, " k"],
  ] as const)
    if (x >= size) return `${(x / size).toPrecision(3)}${letter}`;
  return x.toPrecision(3);
}
