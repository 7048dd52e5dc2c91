import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const root = fileURLToPath(new URL(".", import.meta.url));
const { compilerOptions } = JSON.parse(readFileSync(`${root}tsconfig.json`, "utf8")) as {
  compilerOptions: { paths: Record<string, [string]> };
};

// Tests run on the sources; with TEST_BUILT=1 the same tests meet the packages as they are published.
const onSources = Object.entries(compilerOptions.paths).map(([name, [file]]) => ({
  find: new RegExp(`^${name.replace("*", "([^/]+)")}$`),
  replacement: `${root}${file.replace("./", "").replace("*", "$1")}`,
}));

export default defineConfig({
  resolve: { alias: process.env["TEST_BUILT"] === "1" ? [] : onSources },
  test: {
    include: ["packages/*/src/**/*.test.ts", "packages/*/test/**/*.test.ts", "apps/*/src/**/*.test.ts"],
    pool: "forks",
    testTimeout: 120_000,
    hookTimeout: 60_000,
  },
});
