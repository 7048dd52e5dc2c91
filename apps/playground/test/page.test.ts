/** The page in real Chromium, driven as a user would. */
import { readFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import type { Browser, Page } from "playwright";
import { createServer, type ViteDevServer } from "vite";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { launchChromium, missing } from "./chromium.js";

const screenshots = process.env["SCREENSHOTS"];

describe.skipIf(missing)("the page", () => {
  let server: ViteDevServer;
  let browser: Browser;
  let page: Page;
  const faults: string[] = [];

  const textOf = (id: string): Promise<string> =>
    page
      .locator(`#${id}`)
      .textContent()
      .then((found) => found ?? "");
  const shoot = async (name: string): Promise<void> => {
    if (screenshots !== undefined) await page.screenshot({ path: `${screenshots}/${name}.png`, fullPage: true });
  };
  const open = async (): Promise<void> => {
    await page.goto(`http://localhost:${(server.httpServer!.address() as AddressInfo).port}/`);
    await page.locator("#continue:enabled").waitFor();
  };

  beforeAll(async () => {
    server = await createServer({
      configFile: fileURLToPath(new URL("../vite.config.ts", import.meta.url)),
      server: { port: 0, hmr: false },
      logLevel: "error",
    });
    await server.listen();
    browser = await launchChromium();
    page = await browser.newPage({ viewport: { width: 420, height: 900 } });
    page.setDefaultTimeout(90_000);
    page.on("pageerror", (error) => faults.push(error.message));
  });
  afterAll(async () => {
    await browser?.close();
    await server?.close();
    expect(faults).toEqual([]);
  });

  test("loads the shipped model on WebGPU, and continues a text", async () => {
    const start = performance.now();
    await page.addInitScript(() => {
      const seen: string[] = [];
      Object.assign(window, { seen });
      new MutationObserver(() => {
        for (const id of ["model", "progress"]) seen.push(document.getElementById(id)?.textContent ?? "");
      }).observe(document, { childList: true, subtree: true, characterData: true });
    });
    await open();
    const kernels = (await page.evaluate(() => (window as { seen?: string[] }).seen!))
      .map((said) => /^Preparing the device, (\d+) of (\d+) kernels$/.exec(said))
      .filter((found) => found !== null);
    expect(kernels.length).toBeGreaterThan(2);
    expect(Number(kernels.at(-1)![2])).toBeGreaterThan(8);
    expect(await textOf("device")).toMatch(/^webgpu: .*swiftshader/i);
    expect(await textOf("model")).toMatch(/shipped.*1\.06 million parameters, 4 layers/);
    await page.locator("#prompt").fill("And God said, ");
    await page.locator("#continuation").filter({ hasText: /\w{3}/ }).waitFor();
    console.log(
      `from opening to the first text: ${((performance.now() - start) / 1000).toFixed(1)} s (development server)`,
    );
    await page.waitForFunction(() => (document.querySelector("#continuation")?.textContent ?? "").length > 40);
    await page.locator("#stop").click();
    await page.waitForFunction(() => (document.querySelector("#stop") as HTMLButtonElement).disabled);
    const stopped = await textOf("continuation");
    await page.waitForTimeout(300);
    expect(await textOf("continuation")).toBe(stopped);
    expect(await textOf("state-bytes")).toMatch(/KiB, whatever was read/);
    expect(await textOf("cache-bytes")).toMatch(/after \d+ tokens/);
    await shoot("generate");
  });

  test("draws what each layer selects, from the keyboard too", async () => {
    await page.locator("#select").focus();
    await page.keyboard.press("Enter");
    await page.locator("#selection span").first().waitFor();
    const shades = await page
      .locator("#selection span")
      .evaluateAll((spans) => spans.map((s) => (s as HTMLElement).title));
    expect(new Set(shades).size).toBeGreaterThan(5);
    for (const shade of shades) expect(shade).toMatch(/^delta \d+\.\d+, gate \d+\.\d+$/);
    await page.locator("#layer").selectOption("2");
    expect(await page.locator("#selection span").first().getAttribute("title")).not.toBe(shades[0]);
    await shoot("selection");
  });

  test("trains on pasted text, aborts, saves, and loads what it saved", async () => {
    const corpus = "She sells sea shells by the sea shore. ".repeat(40);
    await page.locator("#corpus").fill(corpus);
    await page.locator("#width").selectOption("32");
    await page.locator("#layers").selectOption("1");
    await page.locator("#steps").fill("1000");
    await page.locator("#train").click();
    await page
      .locator("#progress")
      .filter({ hasText: /Step ([5-9]|\d\d+) of 1000/ })
      .waitFor();
    expect(await page.evaluate(() => (window as { seen?: string[] }).seen!.join("\n"))).toMatch(
      /Preparing the device, \d+ of \d+ kernels\n[\s\S]*Step 1 of 1000/,
    );
    const bits = (line: string): number => Number(/: ([\d.]+) bits/.exec(line)?.[1]);
    await page.locator("#abort").click();
    await page
      .locator("#progress")
      .filter({ hasText: /Done after \d+ steps/ })
      .waitFor();
    expect(bits(await textOf("progress"))).toBeLessThan(8);
    expect(await textOf("model")).toMatch(/trained here/);
    expect(await page.locator("#loss polyline").getAttribute("points")).toMatch(/ /);
    await shoot("train");
    const files = new Map<string, string>();
    page.on("download", async (download) => files.set(download.suggestedFilename(), await download.path()));
    await page.locator("#save").click();
    await expect.poll(() => files.size, { timeout: 30_000 }).toBe(2);
    const saved = await Promise.all(
      ["config.json", "model.safetensors"].map(async (name) => ({
        name,
        mimeType: "application/octet-stream",
        buffer: await readFile(files.get(name)!),
      })),
    );
    await page.locator("#shipped").click();
    await page.locator("#model").filter({ hasText: "shipped" }).waitFor();
    await page.locator("#files").setInputFiles(saved);
    await page.locator("#model").filter({ hasText: "your file" }).waitFor();
    await page.locator("#continue").click();
    await page.locator("#continuation").filter({ hasText: /\S/ }).waitFor();
    await page.locator("#stop").click();
  });

  test("a lost device is replaced, and the model loaded into the new one", async () => {
    await open();
    const worker = page.workers()[0]!;
    // The next command shows the device, which is then taken away in the middle of a text.
    await worker.evaluate(() => {
      const { prototype } = GPUDevice;
      const create = prototype.createCommandEncoder;
      prototype.createCommandEncoder = function (...rest) {
        (globalThis as { device?: GPUDevice }).device = this;
        prototype.createCommandEncoder = create;
        return create.apply(this, rest);
      };
    });
    await page.locator("#continue").click();
    await page.locator("#continuation").filter({ hasText: /\S/ }).waitFor();
    await worker.evaluate(() => (globalThis as { device?: GPUDevice }).device!.destroy());
    await page
      .locator("#error")
      .filter({ hasText: /device was lost/ })
      .waitFor();
    await page
      .locator("#device")
      .filter({ hasText: /The device was lost; this is a new one/ })
      .waitFor();
    await page.locator("#continue:enabled").waitFor();
    await page.locator("#continue").click();
    await page.locator("#continuation").filter({ hasText: /\S/ }).waitFor();
    expect(await textOf("error")).toBe("");
    await page.locator("#stop").click();
  });

  test("from the keyboard alone: text, stop, selection, training", async () => {
    await open();
    await page.locator("#prompt").focus();
    await page.keyboard.type("!");
    await page.keyboard.press("Control+Enter");
    await page.locator("#continuation").filter({ hasText: /\S/ }).waitFor();
    await page.keyboard.press("Escape");
    await page.waitForFunction(() => (document.querySelector("#stop") as HTMLButtonElement).disabled);
    const reached = new Set<string>();
    for (let i = 0; i < 20; i++) {
      await page.keyboard.press("Tab");
      reached.add(await page.evaluate(() => document.activeElement?.id ?? ""));
    }
    for (const id of ["continue", "select", "corpus", "width", "layers", "steps", "train", "save"])
      expect([...reached]).toContain(id);
  });

  test("a phone's width needs no sideways scrolling", async () => {
    await page.setViewportSize({ width: 360, height: 700 });
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(360);
    await page.setViewportSize({ width: 420, height: 900 });
  });

  test("says what is wrong", async () => {
    await page.locator("#corpus").fill("too short");
    await page.locator("#train:enabled").click();
    await page
      .locator("#error")
      .filter({ hasText: /9 bytes; 129 are the least/ })
      .waitFor();
    await page.locator("#files").setInputFiles([{ name: "model.safetensors", mimeType: "", buffer: Buffer.from("x") }]);
    await page.locator("#error").filter({ hasText: "config.json and model.safetensors" }).waitFor();
    await page.locator("#files").setInputFiles([
      { name: "config.json", mimeType: "", buffer: Buffer.from("{}") },
      { name: "model.safetensors", mimeType: "", buffer: Buffer.from("x") },
    ]);
    await page
      .locator("#error")
      .filter({ hasText: /your file|safetensors|blob/i })
      .waitFor();
    await open();
    expect(await textOf("error")).toBe("");
  });

  test.each(["wasm", "cpu"])("without WebGPU the processor does the work, by %s", async (backend) => {
    const plain = await browser.newContext();
    const other = await plain.newPage();
    other.setDefaultTimeout(60_000);
    await other.goto(`http://localhost:${(server.httpServer!.address() as AddressInfo).port}/?backend=${backend}`);
    await other.locator("#continue:enabled").waitFor();
    expect(await other.locator("#device").textContent()).toMatch(
      new RegExp(`^${backend}: .*the processor does the work`),
    );
    await other.locator("#continue").click();
    await other.locator("#continuation").filter({ hasText: /\w/ }).waitFor();
    await plain.close();
  });
});
