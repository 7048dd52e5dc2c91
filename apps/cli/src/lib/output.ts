import { isMambaError } from "@mamba-ts/backend";
import pc from "picocolors";

/** Where a command's results go: text for people, or one JSON document per line for programs. Progress goes to stderr. */
export interface Output {
  readonly json: boolean;
  /** A result: printed as it is, or as JSON. */
  result(text: string, data: unknown): void;
  /** A remark on stderr. */
  note(text: string): void;
  /** A line on stderr that is overwritten by the next one; only on a terminal. */
  progress(text: string): void;
}

export function createOutput({ json }: { readonly json: boolean }): Output {
  const isTerminal = process.stderr.isTTY === true;
  let open = false;
  const endProgress = (): void => {
    if (open) process.stderr.write("\n");
    open = false;
  };
  return {
    json,
    result(text, data) {
      endProgress();
      process.stdout.write(json ? `${JSON.stringify(data)}\n` : `${text}\n`);
    },
    note(text) {
      endProgress();
      process.stderr.write(`${pc.dim(text)}\n`);
    },
    progress(text) {
      if (!isTerminal) return;
      process.stderr.write(`\r\x1b[2K${text}`);
      open = true;
    },
  };
}

/** Exit codes: 0 done, 1 failed, 2 wrong usage or input, 130 interrupted. */
export function reportError(error: unknown, json: boolean): number {
  const interrupted = error instanceof Error && error.name === "AbortError";
  const known = isMambaError(error);
  const message = error instanceof Error ? error.message : String(error);
  // A bug of ours: where it happened belongs to the report.
  const stack = !known && !interrupted && error instanceof Error ? error.stack : undefined;
  if (json)
    process.stderr.write(
      `${JSON.stringify({ error: { code: known ? error.code : interrupted ? "interrupted" : "internal", message, stack } })}\n`,
    );
  else {
    process.stderr.write(interrupted ? `\n${pc.yellow("interrupted")}\n` : `\n${pc.red("error:")} ${message}\n`);
    if (stack !== undefined) process.stderr.write(`${pc.dim(stack)}\n`);
  }
  if (interrupted) return 130;
  return known && ["invalid-argument", "config", "shape", "data", "checkpoint"].includes(error.code) ? 2 : 1;
}

/** 1h 02m, 3m 20s, 12s */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return "?";
  const s = Math.round(seconds);
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m ${String(s % 60).padStart(2, "0")}s`;
  return `${Math.floor(s / 3600)}h ${String(Math.floor((s % 3600) / 60)).padStart(2, "0")}m`;
}

/** 1,234,567 */
export function count(n: number): string {
  return n.toLocaleString("en-US");
}

/** 1.5 MB */
export function bytes(n: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let i = 0;
  let x = n;
  while (x >= 1000 && i < units.length - 1) {
    x /= 1000;
    i++;
  }
  return `${i === 0 ? x : x.toFixed(x < 10 ? 2 : 1)} ${units[i]}`;
}
