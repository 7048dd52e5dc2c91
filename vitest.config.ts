import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";
import { testsOnBuilt } from "./packages/config/vitest/built.mjs";

const root = fileURLToPath(new URL(".", import.meta.url));

// With TEST_BUILT=1 the same tests meet the packages as they are built.
const built = process.env["TEST_BUILT"] === "1" ? await testsOnBuilt() : undefined;

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
          pool: "forks",
          include: built?.include ?? ["{packages,apps}/*/{src,test}/**/*.test.ts"],
        },
      },
    ],
  },
});
