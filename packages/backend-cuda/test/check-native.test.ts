import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, test } from "vitest";

const script = fileURLToPath(new URL("../scripts/check-native.mjs", import.meta.url));
const sources = readdirSync(fileURLToPath(new URL("../../../kernels", import.meta.url)), {
  recursive: true,
  encoding: "utf8",
});
const kernels = sources.filter((file) => file.endsWith(".cu")).map((file) => `${basename(file, ".cu")}.fatbin`);

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "cuda-check-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** The headers of what a release packs. */
function fill(): void {
  for (const [platform, machine] of [
    ["linux-x64", 62],
    ["linux-arm64", 183],
  ] as const) {
    mkdirSync(join(folder, platform));
    const elf = Buffer.alloc(64);
    elf.writeUInt32BE(0x7f454c46);
    elf.writeUInt16LE(machine, 18);
    writeFileSync(join(folder, platform, "mamba_cuda.node"), elf);
    const fatbin = Buffer.alloc(64);
    fatbin.writeUInt32LE(0xba55ed50);
    for (const kernel of kernels) writeFileSync(join(folder, platform, kernel), fatbin);
  }
}

function check(): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, folder], { encoding: "utf8" });
  return { status, output: stdout + stderr };
}

test("packages with nothing in them are not to be published", () => {
  const { status, output } = check();
  expect(status).toBe(1);
  for (const platform of ["linux-x64", "linux-arm64"])
    expect(output).toContain(`${platform}: not there: mamba_cuda.node, ${kernels[0]}`);
});

test("complete ones are", () => {
  fill();
  expect(check()).toEqual({ status: 0, output: expect.stringContaining("complete") });
});

test.each<[string, (path: (file: string) => string) => void, RegExp]>([
  ["no addon", (path) => rmSync(path("mamba_cuda.node")), /linux-arm64: not there: mamba_cuda\.node$/m],
  [
    "one kernel missing",
    (path) => rmSync(path(kernels[3]!)),
    new RegExp(`linux-arm64: not there: ${kernels[3]}$`, "m"),
  ],
  [
    "the other platform's addon",
    (path) => copyFileSync(path("../linux-x64/mamba_cuda.node"), path("mamba_cuda.node")),
    /mamba_cuda\.node is not made for linux-arm64/,
  ],
  ["an empty addon", (path) => writeFileSync(path("mamba_cuda.node"), ""), /mamba_cuda\.node is not made for/],
  ["an empty kernel", (path) => writeFileSync(path(kernels[0]!), ""), /is no fat binary/],
  [
    "a kernel that is gone",
    (path) => copyFileSync(path(kernels[0]!), path("old.fatbin")),
    /old\.fatbin is of no kernel/,
  ],
])("%s is said", (_, spoil, expected) => {
  fill();
  spoil((file) => join(folder, "linux-arm64", file));
  const { status, output } = check();
  expect(status).toBe(1);
  expect(output).toMatch(expected);
  expect(output).not.toContain("linux-x64:");
});
