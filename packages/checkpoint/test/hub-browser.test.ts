import { isMambaError } from "@mamba-ts/backend";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type CacheStore, type HubBrowserOptions, openFromHub } from "../src/hub-browser.js";
import { type Behaviour, type HubServer, startHub, utf8, weights } from "./hub-server.js";

let hub: HubServer;
let behaviour: Behaviour;
let kept: Map<string, Blob>;
const model = "model.safetensors";

const cache: CacheStore = {
  async match(url) {
    const blob = kept.get(url);
    return blob && new Response(blob);
  },
  async put(url, response) {
    kept.set(url, await response.blob());
  },
};

/** As in a page, where a redirect that is not followed tells nothing. */
const pageFetch: typeof fetch = async (input, init) => {
  const response = await fetch(input, init);
  const hidden = init?.redirect === "manual" && response.status >= 300 && response.status < 400;
  if (!hidden) return response;
  await response.body?.cancel();
  return Response.error();
};

beforeEach(async () => {
  kept = new Map();
  behaviour = {
    listsBlobs: true,
    files: new Map([
      ["config.json", utf8('{"a":1}')],
      ["tokenizer.json", utf8('{"t":1}')],
      [model, await weights("x", 20_000)],
    ]),
  };
  hub = await startHub(behaviour);
});
afterEach(() => hub.close());

const open = (options: HubBrowserOptions = {}) =>
  openFromHub("owner/name", {
    endpoint: hub.endpoint,
    cache,
    fetch: pageFetch,
    attempts: 2,
    stallTimeout: 300,
    ...options,
  });

async function refusal(run: Promise<unknown>): Promise<string> {
  const error: unknown = await run.then(
    () => undefined,
    (e: unknown) => e,
  );
  if (!isMambaError(error)) throw error ?? new Error("not refused");
  return error.message;
}

const contents = (): number => hub.seen.filter(({ path }) => !path.startsWith("/api/")).length;

test("the files come once and are kept", async () => {
  const loaded: number[] = [];
  const { config, tokenizer, source } = await open({
    onDownload: (p) => p.file.endsWith(model) && loaded.push(p.loaded),
  });
  expect([config, tokenizer, source.names]).toEqual([{ a: 1 }, { json: { t: 1 }, config: {} }, ["x"]]);
  expect(loaded.at(-1)).toBe(behaviour.files.get(model)!.length);
  expect(new Float32Array((await source.bytes("x")).slice().buffer)[19_999]).toBe(19_999);
  expect(kept.size).toBe(3);
  hub.seen.length = 0;
  expect((await open()).source.names).toEqual(["x"]);
  expect(contents()).toBe(0);
});

test("without a cache, and with one that is full", async () => {
  expect((await open({ cache: null })).source.names).toEqual(["x"]);
  const full: CacheStore = { match: async () => undefined, put: () => Promise.reject(new Error("QuotaExceeded")) };
  expect((await open({ cache: full })).source.names).toEqual(["x"]);
  expect(kept.size).toBe(0);
});

test("what was kept short is fetched again", async () => {
  await open();
  for (const url of kept.keys()) kept.set(url, new Blob(["short"]));
  expect((await open()).config).toEqual({ a: 1 });
});

test.each(["cut", "stall"] as const)("a connection that is %s: another attempt, then a typed error", async (kind) => {
  let broken = 0;
  let limit = 1;
  behaviour.send = (response, rest, _start, name) => {
    if (name !== model || broken++ >= limit) return void response.end(rest);
    response.write(rest.subarray(0, 5000));
    if (kind === "cut") setTimeout(() => response.destroy(), 50);
  };
  expect((await open()).source.names).toEqual(["x"]);
  kept.clear();
  [broken, limit] = [0, 9];
  expect(await refusal(open())).toMatch(
    kind === "cut" ? /model.safetensors: the connection broke after 5000 of 80\d\d\d bytes/ : /nothing came for 300 ms/,
  );
  expect([...kept.keys()].some((url) => url.endsWith(model))).toBe(false);
});

test.each([model, "config.json"])("wrong bytes in %s are refused and not kept", async (file) => {
  behaviour.send = (response, rest, _start, name) => {
    if (name === file) rest[rest.length - 1]! ^= 1;
    response.end(rest);
  };
  expect(await refusal(open())).toMatch(new RegExp(`${file}: its hash is \\w+, not \\w+`));
  expect([...kept.keys()].some((url) => url.endsWith(file))).toBe(false);
});

test("an abort passes its reason on", async () => {
  const stop = new AbortController();
  const reason = new Error("enough");
  behaviour.send = (response, rest) => void response.write(rest.subarray(0, 3));
  const run = open({ signal: stop.signal, stallTimeout: 5000, onDownload: () => stop.abort(reason) });
  await expect(run).rejects.toBe(reason);
  expect(kept.size).toBe(0);
});

test("a hub that says nothing of files, to a page that may not see its redirects", async () => {
  behaviour.listsBlobs = false;
  expect(await refusal(open())).toMatch(/model.safetensors: the hub answered 0/);
});

test("a config that is no JSON", async () => {
  behaviour.files.set("config.json", utf8("{"));
  expect(await refusal(open())).toMatch(/owner\/name\/config.json is not JSON/);
});

test("shards, and an index that names another folder", async () => {
  const index = (file: string) => utf8(JSON.stringify({ weight_map: { x: "a.safetensors", y: file } }));
  behaviour.files.delete(model);
  behaviour.files.set("a.safetensors", await weights("x", 10));
  behaviour.files.set("b.safetensors", await weights("y", 20));
  behaviour.files.set("model.safetensors.index.json", index("b.safetensors"));
  expect((await open()).source.names).toEqual(["x", "y"]);
  behaviour.files.set("model.safetensors.index.json", index("../b.safetensors"));
  expect(await refusal(open())).toMatch(/tensor y is said to be in .*no file of this folder/);
});
