/** Models from the Hugging Face hub, kept in the cache layout its Python library uses, so that both find each other's files. */
import { randomBytes } from "node:crypto";
import { copyFile, mkdir, readdir, readFile, rename, rm, symlink } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join, relative } from "node:path";
import { DownloadError } from "@mamba-ts/backend";
import { describeFile, type HubOptions, listRepository, neededFiles } from "../hub/remote.js";
import type { Checkpoint } from "../source.js";
import { atomicWrite } from "./atomic-write.js";
import { downloadTo } from "./download.js";
import { openCheckpoint, readJson } from "./folder.js";

export type { DownloadProgress, HubOptions } from "../hub/remote.js";

export interface HubCacheOptions extends HubOptions {
  /** $HF_HUB_CACHE, $HF_HOME/hub or ~/.cache/huggingface/hub by default. */
  readonly cacheDir?: string;
  /** Use only what is in the cache. */
  readonly offline?: boolean;
}

function defaultCache(): string {
  const { HF_HUB_CACHE, HF_HOME } = process.env;
  return HF_HUB_CACHE ?? join(HF_HOME ?? join(homedir(), ".cache", "huggingface"), "hub");
}

/** Downloads a model's files, or finds them in the cache, and returns the snapshot's folder. Throws DownloadError naming the file and what differs. */
export async function downloadFromHub(repo: string, options: HubCacheOptions = {}): Promise<string> {
  if (!/^[\w.-]+\/[\w.-]+$/.test(repo)) throw new DownloadError(`${repo} is no repository name (owner/name)`);
  const { revision = "main" } = options;
  if (revision.split(/[\\/]/).some((part) => part === "" || part === "." || part === ".."))
    throw new DownloadError(`${repo}: ${revision} is no revision`);
  const { offline = false, cacheDir = defaultCache() } = options;
  const root = join(cacheDir, `models--${repo.replace("/", "--")}`);
  if (offline) return cached(repo, root, revision);
  const remote = await listRepository(repo, options);
  const { commit, files } = remote;
  const snapshot = join(root, "snapshots", commit);
  const fetchFile = async (file: string): Promise<string> => {
    const target = join(snapshot, file);
    const description = await describeFile(repo, remote, file, options);
    const blob = join(root, "blobs", description.etag);
    await downloadTo(blob, `${repo}/${file}`, description, options);
    await link(blob, target);
    return target;
  };
  const { always, weights } = neededFiles(repo, files);
  for (const file of always) await fetchFile(file);
  const weightsPath = await fetchFile(weights);
  if (weights.endsWith(".index.json"))
    for (const shard of shardsOf(weightsPath, await readJson(weightsPath))) await fetchFile(shard);
  if (revision !== commit) await atomicWrite(join(root, "refs", revision), commit);
  return snapshot;
}

function shardsOf(name: string, index: unknown): Set<string> {
  const map = (index as { weight_map?: Record<string, unknown> } | null)?.weight_map ?? {};
  const shards = new Set(Object.values(map).map(String));
  for (const shard of shards)
    if (/[/\\]|^\.\.?$/.test(shard))
      throw new DownloadError(`${name}: it names ${shard}, which is outside the repository`);
  return shards;
}

async function cached(repo: string, root: string, revision: string): Promise<string> {
  const commit = await readFile(join(root, "refs", revision), "utf8").then(
    (text) => text.trim(),
    () => revision,
  );
  const snapshot = join(root, "snapshots", commit);
  const files = await readdir(snapshot).catch((cause: unknown) => {
    throw new DownloadError(`${repo} at ${revision} is not in the cache ${root}`, {
      hint: "download it once without offline",
      cause,
    });
  });
  neededFiles(repo, files);
  return snapshot;
}

/** A relative link, as the Python library makes; where links are not allowed, a copy. Put in place whole: others may be reading. */
async function link(blob: string, target: string): Promise<void> {
  await mkdir(dirname(target), { recursive: true });
  const temporary = `${target}.${randomBytes(6).toString("hex")}.tmp`;
  try {
    await symlink(relative(dirname(target), blob), temporary).catch(() => copyFile(blob, temporary));
    await rename(temporary, target);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/** Downloads and opens a model. */
export async function openFromHub(repo: string, options: HubCacheOptions = {}): Promise<Checkpoint> {
  return openCheckpoint(await downloadFromHub(repo, options));
}
