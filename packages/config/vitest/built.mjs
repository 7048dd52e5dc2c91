// Tests sit beside the sources and import them by relative paths. For the run on the built packages, those imports are led
// to the entry point that exports the same names; imports by package name find the built package by themselves. A test
// that needs anything an entry point does not export, or puts something in the place of a module, tests an internal: it is
// left out, and named by test.mjs.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { parseAst, transformWithEsbuild } from "vite";
import { entryPoints, readJson, root, workspacePackages } from "../scripts/lib/workspace.mjs";

/**
 * @typedef {ReturnType<typeof parseAst>["body"][number]} Statement
 *
 * @typedef {object} EntryPoint
 * @property {string} file the built module
 * @property {string} source its source
 * @property {Set<string>} names what it exports
 *
 * @typedef {object} BuiltPackage
 * @property {EntryPoint[]} entries
 * @property {Set<string>} sources all source files that went into the build
 */

/** @param {string} file */
async function parse(file) {
  const { code } = await transformWithEsbuild(readFileSync(file, "utf8"), file, { sourcemap: false });
  return parseAst(code);
}

/** An identifier, or a string that serves as one. @param {{ type: string, name?: string, value?: unknown }} node */
const nameOf = (node) => node.name ?? String(node.value);

/** The names that a built module exports itself; `export *` of another package is not followed. @param {string} file */
function exportedNames(file) {
  return new Set(
    parseAst(readFileSync(file, "utf8")).body.flatMap((node) =>
      node.type === "ExportNamedDeclaration" ? node.specifiers.map(({ exported }) => nameOf(exported)) : [],
    ),
  );
}

/** @param {import("../scripts/lib/workspace.mjs").WorkspacePackage} pkg @returns {BuiltPackage} */
function readBuilt(pkg) {
  const dist = join(root, pkg.folder, "dist");
  if (!existsSync(dist)) throw new Error(`${pkg.name} is not built: run the build first`);
  const sources = readdirSync(dist)
    .filter((file) => file.endsWith(".js.map"))
    .flatMap((file) => /** @type {{ sources: string[] }} */ (readJson(join(dist, file))).sources)
    .map((source) => resolve(dist, source));
  const entries = entryPoints(pkg)
    .flatMap(({ browserTwin, ...main }) => (browserTwin === undefined ? [main] : [main, browserTwin]))
    .map(({ source, built }) => ({
      file: join(root, built),
      source: join(root, source),
      names: exportedNames(join(root, built)),
    }));
  return { entries, sources: new Set([...sources, ...entries.map(({ source }) => source)]) };
}

/** @typedef {{ redirects: Map<string, string>, internal: string | undefined }} Plan */

/** The module in whose place `vi.mock` puts something. @param {Statement} node @returns {string | undefined} */
function mockedModule(node) {
  if (node.type !== "ExpressionStatement" || node.expression.type !== "CallExpression") return undefined;
  const { callee, arguments: given } = node.expression;
  const isMock =
    callee.type === "MemberExpression" &&
    callee.object.type === "Identifier" &&
    callee.object.name === "vi" &&
    callee.property.type === "Identifier" &&
    callee.property.name === "mock";
  return isMock && given[0]?.type === "Literal" ? String(given[0].value) : undefined;
}

/**
 * Where each relative import of a test leads, helpers of the test included.
 * @param {string} test
 * @param {BuiltPackage} built
 * @returns {Promise<Plan>} redirects by "importer\0specifier"; internal names the first import that no entry point satisfies
 */
async function plan(test, built) {
  const redirects = new Map();
  const seen = new Set();
  const waiting = [test];
  for (let file = waiting.pop(); file !== undefined; file = waiting.pop()) {
    if (seen.has(file)) continue;
    seen.add(file);
    for (const node of (await parse(file)).body) {
      const mocked = mockedModule(node);
      if (mocked !== undefined) {
        const target = resolve(dirname(file), mocked).replace(/\.js$/, ".ts");
        if (built.sources.has(target)) return { redirects, internal: relative(root, target) };
      }
      if (!("source" in node) || node.source == null) continue;
      const specifier = String(node.source.value);
      if (!specifier.startsWith(".")) continue;
      const target = resolve(dirname(file), specifier).replace(/\.js$/, ".ts");
      if (!built.sources.has(target)) {
        // No part of the package: a helper of the tests, or data.
        if (/\.ts$/.test(target) && existsSync(target)) waiting.push(target);
        continue;
      }
      const entry =
        built.entries.find(({ source }) => source === target) ??
        built.entries.find((candidate) => satisfies(candidate, node));
      if (entry === undefined) return { redirects, internal: relative(root, target) };
      redirects.set(`${file}\0${specifier}`, entry.file);
    }
  }
  return { redirects, internal: undefined };
}

/**
 * Whether an entry point exports all that a statement imports.
 *
 * @param {EntryPoint} entry
 * @param {Statement} node
 */
function satisfies(entry, node) {
  if (node.type !== "ImportDeclaration") return false;
  return node.specifiers.every(
    (specifier) => specifier.type === "ImportSpecifier" && entry.names.has(nameOf(specifier.imported)),
  );
}

/** Files below a folder that are tests. @param {string} folder @returns {string[]} */
function testFiles(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".test.ts"))
    .map((file) => join(folder, file));
}

/**
 * @returns {Promise<{ include: string[], internal: string[], aliases: import("vite").Alias[], plugin: import("vite").Plugin }>}
 * the tests that can run on the built packages, as paths below the root, and those that cannot; what leads package names
 * there, and the tests' relative imports
 */
export async function testsOnBuilt() {
  /** @type {string[]} */
  const include = [];
  /** @type {Map<string, string>} */
  const redirects = new Map();
  /** @type {string[]} */
  const internal = [];
  for (const pkg of workspacePackages()) {
    const tests = ["src", "test"].flatMap((part) => testFiles(join(root, pkg.folder, part)));
    if (tests.length === 0) continue;
    const built = readBuilt(pkg);
    for (const test of tests) {
      const found = await plan(test, built);
      if (found.internal !== undefined) {
        internal.push(`${relative(root, test)} (${found.internal})`);
        continue;
      }
      include.push(relative(root, test));
      for (const [key, file] of found.redirects) redirects.set(key, file);
    }
  }
  return {
    include,
    internal,
    aliases: workspacePackages()
      .flatMap(entryPoints)
      .map(({ name, built }) => ({ find: new RegExp(`^${name}$`), replacement: join(root, built) })),
    plugin: {
      name: "mamba-ts:built",
      enforce: "pre",
      resolveId: (specifier, importer) =>
        importer ? redirects.get(`${importer.split("?")[0]}\0${specifier}`) : undefined,
    },
  };
}
