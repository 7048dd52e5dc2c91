import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./workspace.mjs";

/**
 * A fenced block of a README whose info string is `ts check` (runs in Node and in browsers) or `ts check node`.
 * @typedef {object} Snippet
 * @property {string} where the file and line, for messages
 * @property {string} file a name for it
 * @property {string} code
 * @property {boolean} nodeOnly
 */

/** The checked snippets of a package's README. @param {import("./workspace.mjs").WorkspacePackage} pkg @returns {Snippet[]} */
export function snippets({ folder, name }) {
  const readme = join(root, folder, "README.md");
  if (!existsSync(readme)) return [];
  const text = readFileSync(readme, "utf8");
  return [...text.matchAll(/^```ts check( node)?[ \t]*\r?\n(.*?)^```[ \t]*$/gms)].map((match, i) => ({
    where: `${folder}/README.md:${text.slice(0, match.index).split("\n").length}`,
    file: `${name.replace(/^@/, "").replaceAll("/", "-")}-${i + 1}.ts`,
    code: match[2] ?? "",
    nodeOnly: match[1] !== undefined,
  }));
}
