import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const bin = fileURLToPath(new URL("../dist/bin.js", import.meta.url));

// A fresh process of built code: the test runner's own memory, and a compiler's, would count otherwise.
test.skipIf(!existsSync(bin))(
  "a scan of 65,536 steps and its gradient keep the process below 600 MB, fused and composed (needs the build)",
  { timeout: 600_000 },
  () => {
    const { stdout, stderr, status } = spawnSync(process.execPath, [bin, "scan-memory", "--json"], {
      encoding: "utf8",
    });
    expect(stderr).toBe("");
    const rows = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { mode: string; shape: string; peakBytes: number });
    expect(rows.map(({ mode }) => mode)).toEqual(["fused", "composed"]);
    for (const { mode, shape, peakBytes } of rows) {
      expect(shape).toBe("1 x 65536 x 128, dState 16");
      // The five arguments and gradients of full length alone take 200 MB: less would mean that nothing ran.
      expect(peakBytes).toBeGreaterThan(200e6);
      expect(peakBytes, `${mode}: ${Math.round(peakBytes / 1e6)} MB`).toBeLessThan(600e6);
    }
    expect(status).toBe(0);
  },
);
