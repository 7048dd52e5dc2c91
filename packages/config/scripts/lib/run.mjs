import { spawn } from "node:child_process";
import { join } from "node:path";
import { readJson, root } from "./workspace.mjs";

/**
 * @typedef {object} RunOptions
 * @property {string} [cwd]
 * @property {NodeJS.ProcessEnv} [env] added to this process's
 * @property {"capture" | "inherit" | "stderr"} [output] kept (the default), passed through, or all of it sent to standard error
 */

/**
 * Runs a command without a shell; never rejects because of its exit status.
 * @param {string} command
 * @param {string[]} args
 * @param {RunOptions} [options]
 * @returns {Promise<{ code: number, output: string, stdout: string }>} output has both streams as they came
 */
export function run(command, args, { cwd = root, env = {}, output = "capture" } = {}) {
  return new Promise((done, fail) => {
    const stdio = /** @type {const} */ ({
      capture: ["ignore", "pipe", "pipe"],
      inherit: "inherit",
      stderr: ["inherit", 2, 2],
    })[output];
    const child = spawn(command, args, { cwd, env: { ...process.env, ...env }, stdio: /** @type {any} */ (stdio) });
    let both = "";
    let stdout = "";
    child.stdout?.setEncoding("utf8").on("data", (text) => {
      stdout += text;
      both += text;
    });
    child.stderr?.setEncoding("utf8").on("data", (text) => {
      both += text;
    });
    child.on("error", fail);
    child.on("close", (code) => done({ code: code ?? 1, output: both, stdout }));
  });
}

/**
 * Runs the command-line tool of a development dependency of the root: its script, by this Node, so that no shell and no
 * `.cmd` file is needed on any system.
 * @param {string} name the package
 * @param {string[]} args
 * @param {RunOptions & { bin?: string }} [options] bin: the command, where it is not called as the package is
 */
export function runTool(name, args, { bin, ...options } = {}) {
  const folder = join(root, "node_modules", name);
  const manifest = /** @type {{ bin: string | { [name: string]: string } }} */ (readJson(join(folder, "package.json")));
  const script = typeof manifest.bin === "string" ? manifest.bin : manifest.bin[bin ?? name];
  if (script === undefined) throw new Error(`${name} has no command ${bin ?? name}`);
  return run(process.execPath, [join(folder, script), ...args], options);
}

/**
 * Runs pnpm: the one that runs this script, or the one npx finds.
 * @param {string[]} args
 * @param {RunOptions} [options]
 */
export function runPnpm(args, options) {
  const self = process.env["npm_execpath"];
  if (self?.includes("pnpm")) {
    return /\.[cm]?js$/.test(self) ? run(process.execPath, [self, ...args], options) : run(self, args, options);
  }
  return run("npx", ["--yes", "pnpm@10", ...args], options);
}
