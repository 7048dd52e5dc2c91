// Keeps what the page has loaded from its own host, and answers from there first: the page works without a network from then on.
const kept = "mamba-playground-1";

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
// What the page and its worker had loaded before this worker was there.
self.addEventListener("message", (event) => {
  event.waitUntil(keep(event.data.urls).then(() => event.ports[0]?.postMessage("kept")));
});
self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || new URL(request.url).origin !== self.location.origin) return;
  event.respondWith(answer(request));
});

async function keep(urls) {
  const cache = await caches.open(kept);
  for (const url of urls.filter((url) => new URL(url).origin === self.location.origin))
    if ((await cache.match(url, { ignoreVary: true })) === undefined) await cache.add(url);
}

/** Files have their content's hash in their names; the page itself is asked for anew while there is a network. */
async function answer(request) {
  const cache = await caches.open(kept);
  const old = await cache.match(request, { ignoreVary: true });
  if (old !== undefined && request.mode !== "navigate") return old;
  try {
    const fresh = await fetch(request);
    if (fresh.ok) await cache.put(request, fresh.clone());
    return fresh;
  } catch (error) {
    if (old !== undefined) return old;
    throw error;
  }
}
