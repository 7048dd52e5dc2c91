import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";
import { embedKernels } from "./packages/backend-webgpu/scripts/embed.mjs";
import { testsOnBuilt } from "./packages/config/vitest/built.mjs";

const root = fileURLToPath(new URL(".", import.meta.url));

// With TEST_BUILT=1 the same tests meet the packages as they are built.
const built = process.env["TEST_BUILT"] === "1" ? await testsOnBuilt() : undefined;

// Sources need no build, but this: the shaders as a module.
embedKernels();

/** WebGPU without a GPU: Chromium's software driver, unless the machine says which driver it wants. */
const softwareDriver = "/usr/lib/chromium/vk_swiftshader_icd.json";
const driver =
  process.env["VK_DRIVER_FILES"] === undefined && existsSync(softwareDriver)
    ? { VK_DRIVER_FILES: softwareDriver, XDG_RUNTIME_DIR: process.env["XDG_RUNTIME_DIR"] ?? "/tmp" }
    : {};

/** `@mamba-ts/*` leads to the sources, as in tsconfig.json, so that a test needs no build. */
function aliasesToSources() {
  const { compilerOptions } = JSON.parse(readFileSync(`${root}tsconfig.json`, "utf8")) as {
    compilerOptions: { paths: Record<string, [string]> };
  };
  return Object.entries(compilerOptions.paths).map(([name, [file]]) => ({
    find: new RegExp(`^${name.replace("*", "([^/]+)")}$`),
    replacement: root + file.replace("./", "").replace("*", "$1"),
  }));
}

export default defineConfig({
  resolve: { alias: built?.aliases ?? aliasesToSources() },
  plugins: built ? [built.plugin] : [],
  test: {
    testTimeout: 120_000,
    hookTimeout: 60_000,
    projects: [
      {
        extends: true,
        test: {
          name: "node",
          environment: "node",
          // Processes, not threads: Dawn reads the driver's variables from the process.
          pool: "forks",
          env: driver,
          include: built?.include ?? ["{packages,apps}/*/{src,test}/**/*.test.ts"],
        },
      },
    ],
  },
});
