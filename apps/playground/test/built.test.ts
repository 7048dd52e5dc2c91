/** The page as it is built: its size, without a network, and how soon it writes. */
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import type { Browser, BrowserContext, Page } from "playwright";
import { build, type PreviewServer, preview } from "vite";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { launchChromium, missing } from "./chromium.js";

/** Of all that a visitor's browser loads, the model left out. */
const MOST_BYTES = 200_000;

describe.skipIf(missing)("the built page", () => {
  let folder: string;
  let server: PreviewServer;
  let browser: Browser;
  let context: BrowserContext;
  let page: Page;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "playground-"));
    const options = {
      configFile: fileURLToPath(new URL("../vite.config.ts", import.meta.url)),
      logLevel: "error" as const,
      build: { outDir: folder, emptyOutDir: true },
    };
    // Vite builds for production unless the environment says otherwise, as a test runner's does.
    vi.stubEnv("NODE_ENV", "production");
    await build(options);
    vi.unstubAllEnvs();
    server = await preview({ ...options, preview: { port: 0 } });
    browser = await launchChromium();
    context = await browser.newContext();
    page = await context.newPage();
    page.setDefaultTimeout(60_000);
    page.on("console", (message) => message.type() === "error" && console.log(message.text()));
  }, 240_000);
  afterAll(async () => {
    await browser?.close();
    await server?.close();
    await rm(folder, { recursive: true, force: true });
  });

  const address = (): string => `http://localhost:${(server.httpServer.address() as AddressInfo).port}/`;
  const write = async (): Promise<number> => {
    const start = performance.now();
    await page.goto(address());
    await page.locator("#continue:enabled").click();
    await page.locator("#continuation").filter({ hasText: /\S/ }).waitFor();
    const seconds = (performance.now() - start) / 1000;
    await page.locator("#stop").click();
    return seconds;
  };

  test("is small", async () => {
    const files = (await readdir(folder, { recursive: true })).filter((file) => /\.(js|css|html)$/.test(file));
    const sizes = await Promise.all(
      files.map(async (file) => {
        const content = await readFile(join(folder, file));
        return { file, content: content.toString(), bytes: gzipSync(content, { level: 9 }).length };
      }),
    );
    const sum = (some: typeof sizes): number => some.reduce((total, { bytes }) => total + bytes, 0);
    // One of the kernels' four WebAssembly builds is loaded where there is no WebGPU, else the backend for that.
    const kernels = sizes.filter(({ file }) => /(simd|relaxed|threads)-[\w-]+\.js$/.test(file));
    expect(kernels.length).toBe(4);
    const webgpu = sizes.filter(({ content }) => content.includes("createComputePipeline("));
    expect(webgpu.length).toBe(1);
    const rest = sum(sizes) - sum(kernels) - sum(webgpu);
    const [onGpu, onProcessor] = [rest + sum(webgpu), rest + Math.max(...kernels.map(({ bytes }) => bytes))];
    console.log(`gzipped: ${onGpu} bytes, ${onProcessor} where there is no WebGPU`);
    expect(Math.max(onGpu, onProcessor)).toBeLessThan(MOST_BYTES);
  });

  test("works without a network once it has been loaded", async () => {
    console.log(`from opening to the first text: ${(await write()).toFixed(2)} s with an empty cache`);
    await page.locator("body[data-offline=ready]").waitFor();
    console.log(`from opening to the first text: ${(await write()).toFixed(2)} s with a warm cache`);
    await context.setOffline(true);
    await write();
    expect(await page.locator("#model").textContent()).toMatch(/shipped/);
    await context.setOffline(false);
  });
});
