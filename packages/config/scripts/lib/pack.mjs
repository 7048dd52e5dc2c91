import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { runPnpm } from "./run.mjs";
import { cacheFolder, platformPackages, publicPackages, root } from "./workspace.mjs";

/**
 * @typedef {object} Tarball
 * @property {import("./workspace.mjs").WorkspacePackage} pkg
 * @property {string} file absolute
 * @property {string[]} contents paths inside the package
 */

/** Packs every public package as it would be published, those of one platform last. @returns {Promise<Tarball[]>} */
export async function packAll() {
  const folder = join(cacheFolder, "tarballs");
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  return Promise.all(
    [...publicPackages(), ...platformPackages()].map(async (pkg) => {
      const { code, stdout, output } = await runPnpm(["pack", "--json", "--pack-destination", folder], {
        cwd: join(root, pkg.folder),
      });
      if (code !== 0) throw new Error(`${pkg.name}: pnpm pack failed:\n${output}`);
      const { filename, files } = /** @type {{ filename: string, files: { path: string }[] }} */ (JSON.parse(stdout));
      return { pkg, file: filename, contents: files.map(({ path }) => path) };
    }),
  );
}
