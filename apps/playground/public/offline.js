// Keeps what the page has loaded from its own host, and answers from there first: the page works without a network from then on.
const kept = "mamba-playground-1";

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || new URL(request.url).origin !== self.location.origin) return;
  event.respondWith(answer(request));
});

/** Files have their content's hash in their names; the page itself is asked for anew while there is a network. */
async function answer(request) {
  const cache = await caches.open(kept);
  const old = await cache.match(request);
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
