import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { defineConfig, type Plugin } from "vite";
import { embedKernels } from "../../packages/backend-webgpu/scripts/embed.mjs";

const root = fileURLToPath(new URL("../../", import.meta.url));
const model = `${root}apps/cli/model/`;
const served = ["config.json", "model.safetensors"];

/** `@mamba-ts/*` leads to the sources, so that the page needs no other build. */
function aliasesToSources() {
  const { compilerOptions } = JSON.parse(readFileSync(`${root}tsconfig.json`, "utf8")) as {
    compilerOptions: { paths: Record<string, [string]> };
  };
  return Object.entries(compilerOptions.paths).map(([name, [file]]) => {
    // Where a package has something of its own for browsers, the page gets that.
    const source = file.replace("./", "");
    const twin = source.replace(/node\/hub\.ts$/, "hub-browser.ts").replace(/node\.ts$/, "node-browser.ts");
    const hasTwin = source.startsWith("packages/checkpoint/") && twin !== source;
    return {
      find: new RegExp(`^${name.replace("*", "([^/]+)")}$`),
      replacement: root + (hasTwin ? twin : source).replace("*", "$1"),
    };
  });
}

/** The checkpoint that the repository ships, at `model/` of the page. */
function shippedModel(): Plugin {
  return {
    name: "shipped-model",
    configureServer(server) {
      server.middlewares.use((request, response, next) => {
        const file = served.find((name) => request.url?.split("?")[0]?.endsWith(`/model/${name}`));
        if (file === undefined) return next();
        response.setHeader("Content-Type", file.endsWith(".json") ? "application/json" : "application/octet-stream");
        response.end(readFileSync(model + file));
      });
    },
    generateBundle() {
      for (const name of readdirSync(model).filter((file) => served.includes(file)))
        this.emitFile({ type: "asset", fileName: `model/${name}`, source: readFileSync(model + name) });
    },
  };
}

embedKernels();

export default defineConfig({
  root: fileURLToPath(new URL(".", import.meta.url)),
  // Works wherever it is put: on a host's root, in a folder, from a file server.
  base: "./",
  resolve: { alias: aliasesToSources() },
  plugins: [shippedModel()],
  worker: { format: "es" },
  build: { target: "es2022", sourcemap: true },
});
