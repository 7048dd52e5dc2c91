import type { Capture } from "@mamba-ts/backend";
import type { Gpu } from "./gpu/gpu.js";

/**
 * Keeps the launches of `fn` as a list of pipelines, bind groups and grids, which `replay` sends again: nothing is built or looked
 * up. What `fn` allocates stays where it is until the capture is disposed, freed or not.
 */
export function captureOn(gpu: Gpu, fn: () => void): Capture {
  const unpin = gpu.pool.pin();
  const finish = gpu.commands.record();
  let recorded: ReturnType<typeof finish>;
  try {
    fn();
  } finally {
    recorded = finish();
    unpin.end();
  }
  let isDisposed = false;
  return {
    replay: () => recorded.replay(),
    [Symbol.dispose]: () => {
      if (isDisposed) return;
      isDisposed = true;
      recorded.destroy();
      unpin.release();
    },
  };
}
