/** Real Chromium with a software adapter, for the page's tests. */
import { existsSync } from "node:fs";
import { type Browser, chromium } from "playwright";

const executablePath = "/usr/bin/chromium";
// In CI a missing browser fails; elsewhere these tests are skipped, and say so.
export const missing = !existsSync(executablePath) && process.env["CI"] === undefined;
if (missing) console.warn(`The page's tests are skipped: no Chromium at ${executablePath}`);

export function launchChromium(): Promise<Browser> {
  return chromium.launch({
    executablePath,
    args: [
      ...["--no-sandbox", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--no-first-run"],
      // A software adapter compiles shaders ten times as fast without zeroed workgroup memory.
      "--enable-dawn-features=disable_workgroup_init",
      ...["--disable-background-networking", "--disable-component-update", "--disable-sync"],
    ],
  });
}
