import { execFileSync } from "node:child_process";

/**
 * The commit that a result was made at, with a plus sign behind it where sources differ from it; "unknown" outside a clone.
 * @param folder - in the clone
 */
export function commitOf(folder: string): string {
  const git = (...args: string[]): string =>
    execFileSync("git", ["-C", folder, ...args], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  try {
    const commit = git("rev-parse", "HEAD");
    return git("status", "--porcelain", "--", ":/packages", ":/kernels", ":/apps/*/src") === "" ? commit : `${commit}+`;
  } catch {
    return "unknown";
  }
}
