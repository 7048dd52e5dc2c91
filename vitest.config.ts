import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { playwright } from "@vitest/browser-playwright";
import { defineConfig, type TestProjectInlineConfiguration } from "vitest/config";
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

const chromium = "/usr/bin/chromium";

/**
 * The WebGPU and the WebAssembly backend in a real browser, with its software adapter. In CI a missing browser fails; elsewhere the
 * tests are left out, which is said.
 */
function inChromium(): TestProjectInlineConfiguration[] {
  if (built !== undefined) return [];
  if (!existsSync(chromium) && process.env["CI"] === undefined) {
    console.warn(`Not run: tests in Chromium, which is not at ${chromium}`);
    return [];
  }
  const project = (
    name: string,
    headers: Record<string, string>,
    include: string[],
  ): TestProjectInlineConfiguration => ({
    extends: true,
    server: { headers },
    test: {
      name,
      include,
      browser: {
        enabled: true,
        headless: true,
        screenshotFailures: false,
        provider: playwright({
          launchOptions: {
            executablePath: chromium,
            args: [
              ...["--no-sandbox", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--no-first-run"],
              // As in Node: a software adapter compiles shaders ten times as fast without zeroed workgroup memory.
              "--enable-dawn-features=disable_workgroup_init",
              ...["--disable-background-networking", "--disable-component-update", "--disable-sync"],
            ],
          },
        }),
        instances: [{ browser: "chromium" }],
      },
    },
  });
  const isolated = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
  };
  return [
    project("chromium", isolated, [
      "packages/backend-webgpu/test/{conformance,device,mamba,shaders}.test.ts",
      "packages/backend-wasm/test/{browser,threads}.test.ts",
    ]),
    // A page that shares no memory with its workers.
    project("chromium-plain", {}, ["packages/backend-wasm/test/browser.test.ts"]),
  ];
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
      ...inChromium(),
    ],
  },
});
