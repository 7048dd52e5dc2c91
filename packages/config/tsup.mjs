import { fileURLToPath } from "node:url";
import { defineConfig } from "tsup";

/**
 * The one build of every package: its entry points as ES modules with declarations.
 * @param {string[] | Record<string, string>} entry source files, one for each entry point
 * @param {import("tsup").Options} options what differs
 */
export function library(entry = ["src/index.ts"], options = {}) {
  return defineConfig({
    entry,
    format: ["esm"],
    target: "es2022",
    // Without the paths of the root's tsconfig.json, which would bundle the sources of other packages.
    tsconfig: fileURLToPath(new URL("./tsconfig.build.json", import.meta.url)),
    // Declarations name Disposable, which a user's tsconfig.json may not have asked for.
    dts: process.env["BUILD_TYPES"] !== "0" && { banner: '/// <reference lib="esnext.disposable" />' },
    sourcemap: true,
    clean: true,
    splitting: true,
    // tsup would turn "node:fs" into "fs", which no browser bundler can tell from a package.
    removeNodeProtocol: false,
    ...options,
  });
}
