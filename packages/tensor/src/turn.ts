/** How long JavaScript may run before others get a turn, in milliseconds: one frame of a page. */
const FRAME = 16;
let last = Number.NEGATIVE_INFINITY;

/**
 * Gives timers, input, signals and aborts their turn, if the last one was more than 16 ms ago. Awaiting a promise alone does not: where a
 * backend computes at once, a loop of awaits keeps everything else out. Every readback calls this; loops without one should.
 */
export async function giveTurn(): Promise<void> {
  if (performance.now() - last < FRAME) return;
  await nextTask();
  last = performance.now();
}

/** Resolves after what waits in the event loop; a timer would wait for milliseconds more. */
function nextTask(): Promise<void> {
  return new Promise((resolve) => {
    if (typeof setImmediate === "function") setImmediate(resolve);
    else {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => {
        port1.close();
        resolve();
      };
      port2.postMessage(0);
    }
  });
}
