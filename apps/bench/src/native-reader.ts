import { execFileSync } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** Bytes per second that a native program reads memory at, by apps/bench/native/reader.cc; undefined where there is no g++. */
export function nativeReader(threads: number): (() => number) | undefined {
  const program = join(mkdtempSync(join(tmpdir(), "reader-")), "reader");
  const source = fileURLToPath(new URL("../native/reader.cc", import.meta.url));
  try {
    execFileSync("g++", ["-O2", "-pthread", "-o", program, source], { stdio: "ignore" });
  } catch {
    return undefined;
  }
  return () => Number(execFileSync(program, [String(threads)], { encoding: "utf8" }));
}
