// Several devices of the addon, in this thread and in others, on the fake driver: node several-devices.mjs ADDON. Throws where something is not as it should be.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";

const addon = isMainThread ? process.argv[2] : workerData.addon;
const { Device } = createRequire(import.meta.url)(addon);
const bytes = (/** @type {number} */ seed) => Uint8Array.from({ length: 1000 }, (_, i) => (i * seed) % 251);
const free = (/** @type {any} */ device) => device.memInfo()[0];

/** Writes, copies, fills, launches and reads, so that others get their turn between. @param {any} device @param {number} seed */
async function use(device, seed) {
  const [a, b] = [device.alloc(1000), device.alloc(1000)];
  const kernel = device.find(device.load(new Uint8Array(16)), "kernel", 64 * 1024, seed % 2 === 0);
  for (let i = 0; i < 5; i++) {
    device.copyIn(a, bytes(seed + i));
    device.copy(b, a, 1000);
    device.set(a, 7, 1000);
    device.launch(kernel, 8, 1, 1, 32, 1, 1, 0, new Uint8Array(8), i % 2 === 0, 2 ** (i % 3), i % 4 === 3);
    const read = device.copyOut(b, 1000);
    await device.synchronize();
    assert.deepEqual(new Uint8Array(await read), bytes(seed + i));
  }
  assert.ok(device.info().describesTensors);
  const words = (/** @type {Uint8Array} */ map) => [...new Uint32Array(map.buffer, 0, 7)];
  assert.equal(device.describeTiles(a, 1, 5, 100, 64, true).byteLength, 128);
  assert.deepEqual(words(device.describeTiles(a, 1, 5, 100, 64, true)), [2, 100, 64, 5, 64, 0, 0]);
  assert.deepEqual(words(device.describeTiles(a, 2, 2, 64, 32, false)), [3, 64, 64, 2, 32, 2, 2]);
  device.beginCapture();
  device.set(a, 3, 1000);
  const graph = device.endCapture();
  device.launchGraph(graph);
  device.copyInNow(b, bytes(seed));
  assert.equal(device.elapsed(device.record(), device.record()), 0);
  if (seed % 2 === 0) device.destroyGraph(graph);
  device.release(a);
  return b;
}

if (!isMainThread) {
  const device = new Device(workerData.device);
  const left = await use(device, 5);
  if (workerData.isEndless) {
    // It never closes the device, and is ended while it waits.
    device.alloc(100_000);
    device.copyOut(left, 1000);
    parentPort?.postMessage("waiting");
    await new Promise(() => setInterval(() => device.synchronize(), 1));
  }
  device.close();
} else {
  const devices = [new Device(0), new Device(1), new Device(1)];
  assert.throws(() => new Device(2), /no device 2 of 2/);
  const work = devices.map((device, i) => use(device, i + 2));
  const start = (/** @type {number} */ device, isEndless = false) =>
    new Worker(new URL(import.meta.url), { workerData: { addon, device, isEndless } });
  const workers = [start(0), start(1)];
  await Promise.all(work);
  await Promise.all(
    workers.map((worker) => new Promise((resolve, reject) => worker.once("exit", resolve).once("error", reject))),
  );
  // Each has one array of 1000 bytes left.
  assert.deepEqual(devices.map(free), [2 ** 20 - 1000, 2 ** 20 - 2000, 2 ** 20 - 2000]);
  for (let i = 0; i < 3; i++) {
    const worker = start(1, true);
    await new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject));
    await worker.terminate();
    assert.equal(free(devices[1]), 2 ** 20 - 2000, `after ${i + 1} threads that were ended`);
  }
  devices[2].close();
  devices[2].close();
  assert.throws(() => devices[2].alloc(4), /the device has been closed/);
  assert.throws(() => devices[2].launchGraph(0), /the device has been closed/);
  assert.throws(() => devices[2].synchronize(), /the device has been closed/);
  assert.deepEqual(devices.slice(0, 2).map(free), [2 ** 20 - 1000, 2 ** 20 - 1000]);
  await use(devices[1], 9);
  devices[1].close();
  await use(devices[0], 11);
  // The first is left to the end of the process.
  console.log("as it should be");
}
