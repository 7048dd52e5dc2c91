import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, readlink, realpath, rm, stat, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, sep } from "node:path";
import { isMambaError } from "@mamba-ts/backend";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { downloadFromHub, type HubCacheOptions, openFromHub } from "../src/node/hub.js";
import { type Behaviour, commit, gitHash, type HubServer, sha256, startHub, utf8, weights } from "./hub-server.js";

let hub: HubServer;
let behaviour: Behaviour;
let cacheDir: string;
const model = "model.safetensors";

beforeEach(async () => {
  behaviour = {
    files: new Map([
      ["config.json", utf8('{"a":1}')],
      ["README.md", utf8("not needed")],
      [model, await weights("x", 50_000)],
    ]),
  };
  cacheDir = await mkdtemp(join(tmpdir(), "hub-cache-"));
  hub = await startHub(behaviour);
});
afterEach(async () => {
  await hub.close();
  await rm(cacheDir, { recursive: true });
});

const download = (options: HubCacheOptions = {}): Promise<string> =>
  downloadFromHub("owner/name", { endpoint: hub.endpoint, cacheDir, attempts: 2, stallTimeout: 400, ...options });
const root = (...path: string[]): string => join(cacheDir, "models--owner--name", ...path);
const blobOf = (name: string): string => root("blobs", sha256(behaviour.files.get(name)!));

async function refusal(run: Promise<unknown>): Promise<string> {
  const error: unknown = await run.then(
    () => undefined,
    (e: unknown) => e,
  );
  if (!isMambaError(error, "download")) throw error ?? new Error("not refused");
  return error.message;
}

/** What the cache holds is what the server has, and nothing else. */
async function expectWhole(folder: string, names = ["config.json", model]): Promise<void> {
  expect((await readdir(folder)).sort()).toEqual([...names].sort());
  for (const name of names) {
    expect(sha256(await readFile(join(folder, name)))).toBe(sha256(behaviour.files.get(name)!));
    expect(await realpath(join(folder, name))).toContain(`${sep}blobs${sep}`);
  }
  for (const blob of await readdir(root("blobs"))) expect(blob).toMatch(/^([0-9a-f]{40}|[0-9a-f]{64})$/);
}

describe.each([false, true])("with hashes in the listing: %s", (listsBlobs) => {
  beforeEach(() => {
    behaviour.listsBlobs = listsBlobs;
  });

  test("the files needed come once", async () => {
    await expectWhole(await download());
    expect(hub.seen.some(({ method }) => method === "HEAD")).toBe(!listsBlobs);
    await expectWhole(await download());
    expect([hub.fetches(model).length, hub.fetches("config.json").length]).toEqual([1, 1]);
    expect(hub.seen.some(({ path }) => path.includes("README"))).toBe(false);
  });

  test("progress, to the end", async () => {
    const last = new Map<string, [number, number]>();
    await download({ onDownload: ({ file, loaded, total }) => last.set(file, [loaded, total]) });
    const size = behaviour.files.get(model)!.length;
    expect(last.get(`owner/name/${model}`)).toEqual([size, size]);
  });

  test("content with another hash is refused and removed", async () => {
    behaviour.send = (response, rest) => {
      rest[rest.length - 1]! ^= 1;
      response.end(rest);
    };
    expect(await refusal(download())).toMatch(/config.json: its hash is \w{40}, not \w{40}/);
    expect([await readdir(root("blobs")), existsSync(root("refs")), existsSync(root("snapshots"))]).toEqual([
      [],
      false,
      false,
    ]);
  });
});

test("the cache is laid out as the Python library has it, and serves offline", async () => {
  const folder = await download();
  expect(folder).toBe(root("snapshots", commit));
  expect(await readFile(root("refs", "main"), "utf8")).toBe(commit);
  expect(await readlink(join(folder, model))).toBe(join("..", "..", "blobs", sha256(behaviour.files.get(model)!)));
  await hub.close();
  expect(await download({ offline: true })).toBe(folder);
  expect(await refusal(downloadFromHub("owner/other", { cacheDir, offline: true }))).toMatch(/not in the cache/);
});

test.each(["cut", "stalled"])("after a connection was %s the rest is asked for, and only the rest", async (kind) => {
  behaviour.send = (response, rest, start, name) => {
    if (name !== model || start > 0) return void response.end(rest);
    response.write(rest.subarray(0, 60_000));
    if (kind === "cut") setTimeout(() => response.destroy(), 100);
  };
  await expectWhole(await download());
  expect(hub.fetches(model).map(({ range }) => range)).toEqual([undefined, "bytes=60000-"]);
});

test("a server that ignores ranges sends it all again", async () => {
  const bytes = behaviour.files.get(model)!;
  behaviour.intercept = (request, response, name) => {
    if (name !== model || !request.url!.startsWith("/store/")) return false;
    response.writeHead(200, { "content-length": bytes.length });
    if (request.headers.range !== undefined) response.end(bytes);
    else response.write(bytes.subarray(0, 60_000), () => setTimeout(() => response.destroy(), 100));
    return true;
  };
  await expectWhole(await download());
  expect(hub.fetches(model).map(({ range }) => range)).toEqual([undefined, "bytes=60000-"]);
});

test("an abort keeps what came, under another name; the next attempt goes on from there", async () => {
  const stop = new AbortController();
  const reason = new Error("enough");
  behaviour.send = (response, rest, start, name) => {
    if (name !== model || start > 0) return void response.end(rest);
    response.write(rest.subarray(0, 60_000)); // and then nothing
  };
  const onDownload: HubCacheOptions["onDownload"] = ({ file, loaded }) => {
    if (!file.endsWith(model) || loaded < 60_000) return;
    expect([existsSync(blobOf(model)), existsSync(root("snapshots", commit, model))]).toEqual([false, false]);
    stop.abort(reason);
  };
  await expect(download({ signal: stop.signal, onDownload })).rejects.toBe(reason);
  expect([existsSync(blobOf(model)), existsSync(`${blobOf(model)}.lock`)]).toEqual([false, false]);
  expect((await stat(`${blobOf(model)}.incomplete`)).size).toBe(60_000);
  await expect(download({ offline: true })).rejects.toSatisfy((e) => isMambaError(e, "download"));
  await expectWhole(await download());
  expect(hub.fetches(model).at(-1)?.range).toBe("bytes=60000-");
});

test("what an earlier attempt left is not trusted: wrong bytes, too many, all of them", async () => {
  const bytes = behaviour.files.get(model)!;
  for (const left of [new Uint8Array(1000), new Uint8Array(bytes.length + 1), new Uint8Array(bytes.length), bytes]) {
    await rm(root(), { recursive: true, force: true });
    await mkdir(root("blobs"), { recursive: true });
    await writeFile(`${blobOf(model)}.incomplete`, left);
    await expectWhole(await download());
  }
});

test("a server that answers another range than was asked for", async () => {
  await mkdir(root("blobs"), { recursive: true });
  await writeFile(`${blobOf(model)}.incomplete`, behaviour.files.get(model)!.subarray(0, 1000));
  behaviour.intercept = (request, response, name) => {
    if (request.headers.range === undefined || name !== model || !request.url!.startsWith("/store/")) return false;
    response.writeHead(206, { "content-range": "bytes 5-9/10" }).end("12345");
    return true;
  };
  expect(await refusal(download())).toMatch(/model.safetensors: the server sent another range/);
  expect((await stat(`${blobOf(model)}.incomplete`)).size).toBe(1000);
});

test("a server that sends too much, or nothing more", async () => {
  behaviour.intercept = (request, response, name) => {
    if (name !== model || !request.url!.startsWith("/store/")) return false;
    response.end(new Uint8Array(behaviour.files.get(model)!.length + 5));
    return true;
  };
  expect(await refusal(download())).toMatch(/bytes came, 200\d\d\d were promised/);
  behaviour.intercept = (request, response, name) => {
    if (name !== model || !request.url!.startsWith("/store/")) return false;
    response.flushHeaders();
    return true;
  };
  expect(await refusal(download({ attempts: 1 }))).toMatch(/nothing came for 400 ms/);
  expect(await readdir(root("blobs"))).not.toContain(sha256(behaviour.files.get(model)!));
});

test.each([
  ["the listing", "/api/"],
  ["a description", `/owner/name/resolve/${commit}/config.json`],
])("a hub that stalls in %s", async (_, prefix) => {
  behaviour.intercept = (request) => request.url!.startsWith(prefix);
  expect(await refusal(download())).toMatch(/the hub cannot be reached/);
});

test.each([
  ["401", 401, /answered 401\n.*give a token/],
  ["404", 404, /answered 404\n.*check the repository/],
  ["500", 500, /answered 500$/],
])("the hub answers %s", async (_, status, message) => {
  behaviour.intercept = (_request, response) => {
    response.writeHead(status).end();
    return true;
  };
  expect(await refusal(download())).toMatch(message);
});

test("a file that is not there is asked for once; a server in trouble again", async () => {
  for (const [status, count] of [
    [404, 1],
    [503, 2],
  ] as const) {
    hub.seen.length = 0;
    behaviour.intercept = (request, response, name) => {
      if (name !== model || !request.url!.startsWith("/store/")) return false;
      response.writeHead(status).end();
      return true;
    };
    expect(await refusal(download())).toMatch(`owner/name/${model}: the server answered ${status}`);
    expect(hub.fetches(model)).toHaveLength(count);
  }
});

test.each([
  ["no JSON", "<html>"],
  ["null", "null"],
  ["no commit", '{"siblings":[]}'],
  ["a commit outside the cache", '{"sha":"../x","siblings":[]}'],
  ["no files", '{"sha":"a"}'],
  ["files that are none", '{"sha":"a","siblings":[null]}'],
  ["a file outside the repository", '{"sha":"a","siblings":[{"rfilename":"../config.json"}]}'],
  ["no weights", '{"sha":"a","siblings":[{"rfilename":"config.json"}]}'],
])("a listing with %s", async (_, body) => {
  behaviour.intercept = (request, response) => {
    if (!request.url!.startsWith("/api/")) return false;
    response.end(body);
    return true;
  };
  await refusal(download());
  expect(await readdir(cacheDir)).toEqual([]);
});

test.each([
  ["../../x", "5"],
  ["..", "5"],
  ["", "5"],
  ["abc", "-1"],
  ["abc", "many"],
])("a description with hash %j and size %s", async (etag, size) => {
  behaviour.intercept = (request, response) => {
    if (request.method !== "HEAD") return false;
    response.writeHead(302, { location: "http://store/", "x-linked-etag": etag, "x-linked-size": size }).end();
    return true;
  };
  expect(await refusal(download())).toMatch(/config.json: the hub does not say its size and hash/);
});

test("a repository that was renamed: the hub redirects to another path of its own first", async () => {
  behaviour.intercept = (request, response) => {
    const url = request.url!;
    if (!url.startsWith("/old/")) return false;
    response.writeHead(307, { location: url.replace("/old/", "/owner/"), "content-length": 99 }).end();
    return true;
  };
  const options = { endpoint: hub.endpoint, cacheDir, attempts: 2, stallTimeout: 400 };
  behaviour.files.set(model, await weights("x", 10));
  const asked = behaviour.intercept;
  behaviour.intercept = (request, response, name) => {
    if (request.url!.startsWith("/api/models/old/")) request.url = request.url!.replace("/old/", "/owner/");
    if (!request.url!.startsWith("/api/")) return asked(request, response, name);
    response.end(
      JSON.stringify({ sha: commit, siblings: [...behaviour.files.keys()].map((rfilename) => ({ rfilename })) }),
    );
    return true;
  };
  const folder = await downloadFromHub("old/name", options);
  expect(sha256(await readFile(join(folder, model)))).toBe(sha256(behaviour.files.get(model)!));
});

test("the token goes to the hub", async () => {
  await download({ token: "secret" });
  const toHub = hub.seen.filter(({ path }) => !path.startsWith("/store/"));
  expect(new Set(toHub.map(({ authorization }) => authorization))).toEqual(new Set(["Bearer secret"]));
});

test("shards named by the index; one outside the repository is refused", async () => {
  const index = (file: string) => utf8(JSON.stringify({ weight_map: { x: "a.safetensors", y: file } }));
  behaviour.files.delete(model);
  behaviour.files.set("a.safetensors", await weights("x", 10));
  behaviour.files.set("b.safetensors", await weights("y", 20));
  behaviour.files.set("model.safetensors.index.json", index("b.safetensors"));
  const { source } = await openFromHub("owner/name", { endpoint: hub.endpoint, cacheDir });
  expect([source.names, source.info("y").shape]).toEqual([["x", "y"], [20]]);
  await source.close();
  behaviour.files.set("model.safetensors.index.json", index("../../refs/main"));
  expect(await refusal(download())).toMatch(/names ..\/..\/refs\/main, which is outside/);
});

test("a revision is kept by its name, and cannot lead out of the cache", async () => {
  const folder = await download({ revision: "refs/pr/1" });
  expect(hub.seen[0]?.path).toBe("/api/models/owner/name/revision/refs%2Fpr%2F1");
  expect(await readFile(root("refs", "refs", "pr", "1"), "utf8")).toBe(commit);
  await hub.close();
  for (const revision of ["refs/pr/1", commit]) expect(await download({ revision, offline: true })).toBe(folder);
  await refusal(download({ offline: true }));
  for (const revision of ["../x", "a/../../x", "..", ""])
    expect(await refusal(download({ revision, offline: revision === ".." }))).toMatch(/is no revision/);
  for (const repo of ["name", "a/b/c", "../..//x"])
    expect(await refusal(downloadFromHub(repo, { cacheDir, offline: true }))).toMatch(/no repository name/);
});

test("three at once fetch each file once; nobody ever sees a part of one", async () => {
  behaviour.send = (response, rest) => {
    response.write(rest.subarray(0, rest.length >> 1), () =>
      setTimeout(() => response.end(rest.subarray(rest.length >> 1)), 60),
    );
  };
  const sizes = new Set<number>();
  const watch = setInterval(() => {
    for (const path of [blobOf(model), root("snapshots", commit, model)])
      void stat(path).then(
        (s) => sizes.add(s.size),
        () => {},
      );
  }, 5);
  const folders = await Promise.all([download(), download(), download()]);
  await expectWhole(await download());
  clearInterval(watch);
  expect(new Set(folders).size).toBe(1);
  expect([hub.fetches(model).length, hub.fetches("config.json").length]).toEqual([1, 1]);
  expect([...sizes].filter((size) => size !== behaviour.files.get(model)!.length)).toEqual([]);
});

test("a lock left by a process that died is taken over; waiting for a live one can be aborted", async () => {
  await mkdir(root("blobs"), { recursive: true });
  const lock = root("blobs", `${gitHash(behaviour.files.get("config.json")!)}.lock`);
  await writeFile(lock, "");
  const reason = new Error("enough");
  const stop = new AbortController();
  setTimeout(() => stop.abort(reason), 250);
  await expect(download({ signal: stop.signal })).rejects.toBe(reason);
  await utimes(lock, new Date(0), new Date(0));
  await expectWhole(await download());
});

test("an empty file is a file", async () => {
  behaviour.files.set("tokenizer.json", new Uint8Array(0));
  await expectWhole(await download(), ["config.json", model, "tokenizer.json"]);
});

test("a cache that cannot be written", async () => {
  await writeFile(root(), "");
  expect(await refusal(download())).toMatch(/config.json: it cannot be written: E/);
});
