import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const path = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const addon = path(`../prebuilt/${process.platform}-${process.arch}/mamba_cuda.node`);

test("the addon keeps several devices apart, in several threads, and leaves nothing behind", { timeout: 60_000 }, ({
  skip,
}) => {
  if (!existsSync(addon)) skip("the addon is not built: npx pnpm@10 --filter @mamba-ts/backend-cuda build:native");
  const folder = mkdtempSync(join(tmpdir(), "cuda-devices-"));
  try {
    const driver = [
      "-std=c++17",
      "-fPIC",
      "-shared",
      "-o",
      join(folder, "libcuda.so.1"),
      path("support/fake-driver.cc"),
    ];
    const built = spawnSync("g++", driver, { encoding: "utf8" });
    if (built.error !== undefined) skip("g++ is not here");
    expect(built.stderr).toBe("");
    const env = { ...process.env, LD_LIBRARY_PATH: folder };
    const { stdout, stderr, status } = spawnSync(process.execPath, [path("support/several-devices.mjs"), addon], {
      env,
      encoding: "utf8",
    });
    // What the driver refused, which contexts are still held, and after them all that did not come back.
    expect(stderr.trim()).toBe("refused 0, contexts 0");
    expect(stdout.trim()).toBe("as it should be");
    expect(status).toBe(0);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
