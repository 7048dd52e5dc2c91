import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { DataError } from "@mamba-ts/backend";

/** Values at time stamps. */
export interface Series {
  readonly name: string;
  /** In the series' own unit, increasing. */
  readonly times: Float64Array;
  readonly values: Float64Array;
}

/** A file of the npm package vega-datasets, whose entry point lies in a folder beside its data. */
async function vega(file: string): Promise<string> {
  const entry = createRequire(import.meta.url).resolve("vega-datasets");
  return readFile(join(dirname(entry), "..", "data", file), "utf8");
}

/** Oil temperature (OT) of a transformer of the ETDataset, hourly; times in hours. */
export async function etth1(path: string): Promise<Series> {
  const rows = csv(await readFile(path, "utf8"), path);
  const column = rows[0]!.indexOf("OT");
  if (column < 0) throw new DataError(`${path}: there is no column OT`, { hint: "give ETTh1.csv of the ETDataset" });
  return fromRows("oil temperature of a transformer", rows.slice(1), column, 3_600_000);
}

/** Carbon dioxide over Mauna Loa, monthly with months missing; times in mean months. */
export async function co2(): Promise<Series> {
  const rows = csv(await vega("co2-concentration.csv"), "co2-concentration.csv");
  return fromRows("carbon dioxide over Mauna Loa", rows.slice(1), 1, 30.4375 * 86_400_000);
}

export interface Events {
  readonly name: string;
  /** In hours, increasing. */
  readonly times: Float64Array;
  readonly magnitudes: Float64Array;
}

/** A week of earthquakes all over the world, oldest first. */
export async function earthquakes(): Promise<Events> {
  const { features } = JSON.parse(await vega("earthquakes.json")) as {
    features: { properties: { time: number; mag: number | null } }[];
  };
  const events = features
    .filter(({ properties: { time, mag } }) => Number.isFinite(time) && mag !== null)
    .sort((a, b) => a.properties.time - b.properties.time);
  // Of two events in one millisecond the first counts: time stamps increase.
  const distinct = events.filter((e, i) => i === 0 || e.properties.time > events[i - 1]!.properties.time);
  const start = distinct[0]!.properties.time;
  return {
    name: "earthquakes, all over the world",
    times: Float64Array.from(distinct, (e) => (e.properties.time - start) / 3_600_000),
    magnitudes: Float64Array.from(distinct, (e) => e.properties.mag!),
  };
}

function csv(text: string, file: string): string[][] {
  const rows = text
    .trim()
    .split(/\r?\n/)
    .map((line) => line.split(","));
  if (rows.length < 100) throw new DataError(`${file}: ${rows.length} lines are too few for a forecast`);
  return rows;
}

function fromRows(name: string, rows: readonly string[][], column: number, unit: number): Series {
  const milliseconds = (date: string): number =>
    Date.parse(date.includes(" ") ? `${date.replace(" ", "T")}Z` : `${date}T00:00:00Z`);
  const kept = rows.filter((row) => (row[column] ?? "") !== "" && Number.isFinite(Number(row[column])));
  const start = milliseconds(kept[0]![0]!);
  const times = Float64Array.from(kept, ([date]) => (milliseconds(date!) - start) / unit);
  for (let i = 1; i < times.length; i++)
    if (!(times[i]! > times[i - 1]!))
      throw new DataError(`${name}: ${kept[i]![0]} does not come after ${kept[i - 1]![0]}`);
  return { name, times, values: Float64Array.from(kept, (row) => Number(row[column])) };
}
