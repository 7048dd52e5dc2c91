import { type Capture, DisposedError, UnsupportedError } from "@mamba-ts/backend";
import type { WasmMemory } from "./runtime/memory.js";

/**
 * Runs `fn` and keeps its kernel calls with their arguments, which `replay` makes again: nothing is checked, looked up or allocated.
 * What `fn` allocates stays where it is until the capture is disposed, freed or not.
 */
export function captureOn(memory: WasmMemory, fn: () => void): Capture {
  if (memory.isRecording) throw new UnsupportedError("wasm: a capture inside a capture");
  memory.assertUsable();
  const { recording, pin } = memory.record(fn);
  let isDisposed = false;
  return {
    replay() {
      memory.assertUsable();
      if (isDisposed) throw new DisposedError("wasm: a capture was replayed after it had been disposed");
      if (memory.isRecording) throw new UnsupportedError("wasm: a replay inside a capture");
      recording.replay();
    },
    [Symbol.dispose]() {
      if (isDisposed) return;
      isDisposed = true;
      pin.release();
    },
  };
}
