import { execFile, execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

// What a user gets: the packages are packed by pnpm, as when they are published, and installed by npm into empty projects, from the files
// alone. (pnpm asks a file for its platform only once it is installed.)

const packages = fileURLToPath(new URL("../..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "cuda-installed-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const here = `linux-${process.arch}`;
const platforms = ["linux-arm64", "linux-x64"];
const report = process.report.getReport() as { header: { glibcVersionRuntime?: string } };
const hasPackage = process.platform === "linux" && platforms.includes(here) && !!report.header.glibcVersionRuntime;
const hasAddon = existsSync(join(packages, "backend-cuda/prebuilt", here, "mamba_cuda.node"));
const hasDriver = existsSync("/proc/driver/nvidia/version");
const isBuilt = ["backend", "backend-cuda"].every((name) => existsSync(join(packages, name, "dist/index.js")));

const run = promisify(execFile);
/** Without what the runner of the tests has set for other packages than these: pnpm's shims lead to the repository's by NODE_PATH. */
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(NODE_PATH$|npm_)/i.test(name)));

/** Runs the pnpm that runs the tests, or the one npx finds. */
async function pnpm(cwd: string, ...args: string[]): Promise<string> {
  const self = process.env["npm_execpath"] ?? "";
  if (/pnpm\.c?js$/.test(self)) return (await run(process.execPath, [self, ...args], { cwd })).stdout;
  return (await run("npx", ["--yes", "pnpm@10", ...args], { cwd, shell: process.platform === "win32" })).stdout;
}

interface Packed {
  readonly name: string;
  readonly file: string;
  readonly files: string[];
}

async function pack(path: string): Promise<Packed> {
  const output = await pnpm(join(packages, path), "pack", "--json", "--pack-destination", folder);
  const { name, filename, files } = JSON.parse(output) as { name: string; filename: string; files: { path: string }[] };
  return { name, file: filename, files: files.map((file) => file.path).sort() };
}

/** An empty project that asks for the backend; what that depends on comes from the files, too. */
async function install(packed: readonly Packed[], ...options: string[]): Promise<string> {
  const at = mkdtempSync(join(folder, "project-"));
  const overrides = Object.fromEntries(packed.map(({ name, file }) => [name, `file:${file.replaceAll("\\", "/")}`]));
  const { "@mamba-ts/backend-cuda": backend, ...rest } = overrides;
  const manifest = {
    name: "user",
    private: true,
    dependencies: { "@mamba-ts/backend-cuda": backend },
    overrides: rest,
  };
  writeFileSync(join(at, "package.json"), JSON.stringify(manifest));
  const always = ["--offline", "--no-audit", "--no-fund", "--no-update-notifier", "--cache", join(folder, "cache")];
  await run("npm", ["install", ...always, ...options], { cwd: at, env, shell: process.platform === "win32" });
  return at;
}

/** The native packages in a project. */
const nativeIn = (project: string): string[] =>
  readdirSync(join(project, "node_modules/@mamba-ts")).filter((name) => name.startsWith("backend-cuda-"));

/** What making a backend ends in, in a process of its own. */
function refusal(project: string, before = ""): { kind: string; message: string; hint: string; addons: string[] } {
  const program = `
    import { createRequire } from "node:module";
    ${before}
    const { createBackend } = await import("@mamba-ts/backend-cuda");
    const error = await createBackend({ device: 99 }).then(() => ({}), (error) => error);
    const addons = Object.keys(createRequire(import.meta.url).cache).filter((file) => file.endsWith(".node"));
    console.log(JSON.stringify({ kind: error.constructor.name, message: error.message, hint: error.hint, addons }));`;
  const args = ["--input-type=module", "--eval", program];
  return JSON.parse(execFileSync(process.execPath, args, { cwd: project, env, encoding: "utf8" }));
}

const read = (file: string): unknown => JSON.parse(readFileSync(file, "utf8"));
const inTarball = ({ file }: Packed): unknown =>
  // GNU's tar takes the letter of a Windows drive for a host.
  JSON.parse(execFileSync("tar", ["-xzOf", basename(file), "package/package.json"], { cwd: folder, encoding: "utf8" }));

describe.skipIf(!isBuilt)("as installed (skipped where the packages are not built: pnpm build)", () => {
  let packed: Packed[];
  let cuda: Packed;
  let native: Packed[];
  let whole: string;
  let withoutOptional: string;

  beforeAll(async () => {
    const paths = ["backend", "backend-cuda", ...platforms.map((platform) => `backend-cuda/prebuilt/${platform}`)];
    packed = await Promise.all(paths.map(pack));
    cuda = packed[1]!;
    native = packed.slice(2);
    whole = await install(packed);
    withoutOptional = await install(packed, "--omit=optional");
  }, 120_000);

  test("the backend's package has nothing native, and asks for its version of each platform's", () => {
    expect(cuda.files.filter((file) => !/^(dist\/[^/]+|README\.md|LICENSE|package\.json)$/.test(file))).toEqual([]);
    const { version, optionalDependencies } = inTarball(cuda) as Record<string, unknown>;
    expect(optionalDependencies).toEqual(Object.fromEntries(native.map(({ name }) => [name, version])));
  });

  test("a platform's package says what it runs on, has what was built, and runs nothing", () => {
    for (const [i, platform] of platforms.entries()) {
      const manifest = inTarball(native[i]!) as Record<string, unknown>;
      expect(manifest).toMatchObject({ os: ["linux"], cpu: [platform.slice(6)], libc: ["glibc"] });
      expect(manifest["scripts"]).toBeUndefined();
      const built = readdirSync(join(packages, "backend-cuda/prebuilt", platform));
      const wanted = built.filter((file) => /\.(node|fatbin)$/.test(file));
      expect(native[i]!.files).toEqual([...wanted, "LICENSE", "README.md", "package.json"].sort());
    }
  });

  test("only this platform's is installed", () => {
    expect(nativeIn(whole)).toEqual(hasPackage ? [`backend-cuda-${here}`] : []);
  });

  test.each([
    ["linux", "x64", "glibc", ["backend-cuda-linux-x64"]],
    ["linux", "arm64", "glibc", ["backend-cuda-linux-arm64"]],
    ["linux", "x64", "musl", []],
    ["darwin", "arm64", undefined, []],
    ["win32", "x64", undefined, []],
  ])("for %s %s %s: %o", async (os, cpu, libc, expected) => {
    const options = [`--os=${os}`, `--cpu=${cpu}`, ...(libc === undefined ? [] : [`--libc=${libc}`])];
    expect(nativeIn(await install(packed, ...options))).toEqual(expected);
  });

  test("the addon is found there, and says what else is missing", ({ skip }) => {
    if (!hasPackage || !hasAddon)
      skip("the addon is not built: npx pnpm@10 --filter @mamba-ts/backend-cuda build:native");
    const { kind, message, addons } = refusal(whole);
    expect(kind).toBe("UnsupportedError");
    expect(message).toMatch(hasDriver ? /no device 99 of/ : /NVIDIA driver/);
    expect(addons).toEqual([expect.stringContaining(`backend-cuda-${here}`)]);
  });

  test("without optional dependencies it is said how to get it", ({ skip }) => {
    if (!hasPackage) skip("there is no package for this platform");
    const { kind, message, hint, addons } = refusal(withoutOptional);
    expect(kind).toBe("UnsupportedError");
    expect(message).toContain(`@mamba-ts/backend-cuda-${here}, is not installed`);
    expect(hint).toMatch(/--omit=optional.*--no-optional/);
    expect(addons).toEqual([]);
  });

  test.each([
    ["darwin", "arm64", /no addon for darwin-arm64\n/],
    ["win32", "x64", /no addon for win32-x64\n/],
    ["linux", "riscv64", /no addon for linux-riscv64\n/],
  ])("on %s %s it is said where it runs", (platform, arch, expected) => {
    const glibc = 'process.report.getReport = () => ({ header: { glibcVersionRuntime: "2.36" } });';
    const pretend = `Object.defineProperties(process, { platform: { value: "${platform}" }, arch: { value: "${arch}" } });`;
    const { kind, message, hint } = refusal(withoutOptional, glibc + pretend);
    expect(kind).toBe("UnsupportedError");
    expect(message).toMatch(expected);
    // All that the package asks for.
    const { optionalDependencies } = read(join(packages, "backend-cuda/package.json")) as Record<string, object>;
    for (const name of Object.keys(optionalDependencies!)) expect(hint).toContain(name.split("backend-cuda-")[1]);
  });

  test("on musl, too", () => {
    const musl = "process.report.getReport = () => ({ header: {} });";
    const pretend = 'Object.defineProperties(process, { platform: { value: "linux" }, arch: { value: "x64" } });';
    expect(refusal(withoutOptional, musl + pretend).message).toMatch(/no addon for linux-x64 without glibc \(musl\)\n/);
  });
});
