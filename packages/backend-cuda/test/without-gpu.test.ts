import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { isMambaError } from "@mamba-ts/backend";
import { createBackend } from "@mamba-ts/backend-cuda";
import { afterAll, describe, expect, test } from "vitest";

const prebuilt = fileURLToPath(new URL(`../prebuilt/${process.platform}-${process.arch}`, import.meta.url));
const kernels = fileURLToPath(new URL("../../../kernels", import.meta.url));
const hasAddon = existsSync(join(prebuilt, "mamba_cuda.node"));
const hasDriver = existsSync("/proc/driver/nvidia/version");
const folder = mkdtempSync(join(tmpdir(), "cuda-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** The error that making a backend ends in. */
const refusal = (options: Parameters<typeof createBackend>[0]): Promise<unknown> =>
  createBackend(options).then(
    (backend) => {
      backend[Symbol.dispose]();
      return undefined;
    },
    (error: unknown) => error,
  );

describe("what is missing is said", () => {
  test("the addon", async () => {
    const error = await refusal({ nativeFolder: folder });
    expect(isMambaError(error, "unsupported")).toBe(true);
    expect((error as Error).message).toMatch(/addon does not load/);
  });

  test("the driver, or the device", async ({ skip }) => {
    if (!hasAddon) skip("the addon is not built: npx pnpm@10 --filter @mamba-ts/backend-cuda build:native");
    const error = await refusal({ device: 99 });
    expect(isMambaError(error, "unsupported")).toBe(true);
    expect((error as Error).message).toMatch(hasDriver ? /no device 99 of/ : /NVIDIA driver/);
  });

  test.each([{ device: -1 }, { device: 0.5 }, { maxBytes: 0 }])("options out of range: %o", async (options) => {
    expect(isMambaError(await refusal(options), "invalid-argument")).toBe(true);
  });
});

/** Names of kernels that the sources launch, with the dtype left open. */
function launched(): string[] {
  const source = fileURLToPath(new URL("../src", import.meta.url));
  const files = readdirSync(source, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"));
  const text = files.map((file) => readFileSync(join(source, file), "utf8")).join("\n");
  return [...text.matchAll(/[`"]([a-z0-9_]+)_\$\{/g)].map((m) => m[1]!);
}

test("every kernel that is launched is in a kernel file", () => {
  const files = readdirSync(kernels, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".cu"));
  const text = files.map((file) => readFileSync(join(kernels, file), "utf8")).join("\n");
  const names = new Set(launched());
  expect(names.size).toBeGreaterThan(10);
  for (const name of names) expect(text, name).toMatch(new RegExp(`${name}_(##|float32)`));
});

test("the kernels compile", { timeout: 900_000 }, ({ skip }) => {
  const nvcc = spawnSync("nvcc", ["--version"]);
  if (nvcc.status !== 0) skip("nvcc is not here");
  // What has been built from the same sources is not built again.
  execFileSync(process.execPath, [fileURLToPath(new URL("../scripts/build-native.mjs", import.meta.url))]);
  const built = readdirSync(prebuilt).filter((file) => file.endsWith(".fatbin"));
  const sources = readdirSync(kernels, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".cu"));
  expect(built.sort()).toEqual(sources.map((file) => `${basename(file, ".cu")}.fatbin`).sort());
});

test("the conformance suite, on a GPU", { timeout: 600_000 }, ({ skip }) => {
  if (!hasAddon) skip("the addon is not built");
  if (!hasDriver) skip("there is no NVIDIA GPU here");
  execFileSync(process.execPath, [fileURLToPath(new URL("../scripts/bundle-gpu.mjs", import.meta.url)), folder]);
  const env = { ...process.env, MAMBA_TS_CUDA_NATIVE: folder };
  const output = execFileSync(process.execPath, [join(folder, "conformance.mjs")], { env, encoding: "utf8" });
  expect(output).toMatch(/ 0 failed/);
});
