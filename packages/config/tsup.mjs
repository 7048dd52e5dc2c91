import { defineConfig } from "tsup";

/** The one build of every package: its entry points as ES modules with declarations. */
export function library(entry = ["src/index.ts"], options = {}) {
  return defineConfig({
    entry,
    format: ["esm"],
    target: "es2022",
    dts: true,
    sourcemap: true,
    clean: true,
    splitting: true,
    // tsup would turn "node:fs" into "fs", which no browser bundler can tell from a package.
    removeNodeProtocol: false,
    ...options,
  });
}
