import { isMambaError } from "@mamba-ts/backend";
import { expect, test } from "vitest";
import type { NativeDevice } from "./native.js";
import { withTypedErrors } from "./native-errors.js";

/** A device whose calls all fail, or give their arguments. */
function device(fails: boolean): NativeDevice {
  const call = (...args: unknown[]): unknown => {
    if (fails) throw new Error("cuWhatever: CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered");
    return args;
  };
  return new Proxy({}, { get: (own, name) => Reflect.get(own, name) ?? call }) as NativeDevice;
}

test("what the driver refuses is an error of ours that says what was asked for", () => {
  const native = withTypedErrors(device(true));
  const asked: [string, () => unknown][] = [
    ["allocating 4096 bytes", () => native.alloc(4096)],
    ["writing 12 bytes", () => native.copyIn(1, new Uint8Array(12))],
    ["copying 8 bytes", () => native.copy(1, 2, 8)],
    ["setting 4 bytes to 255", () => native.set(1, 255, 4)],
    ["finding the kernel scan_ring_bf16", () => native.find(0, "scan_ring_bf16", 0, false)],
    ["replaying a graph", () => native.launchGraph(0)],
  ];
  for (const [what, call] of asked) {
    let thrown: unknown;
    try {
      call();
    } catch (error) {
      thrown = error;
    }
    expect(isMambaError(thrown, "backend"), what).toBe(true);
    expect((thrown as Error).message).toBe(
      `cuda: ${what}: cuWhatever: CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered`,
    );
  }
});

test("what it does comes back as it is", () => {
  expect(withTypedErrors(device(false)).copy(1, 2, 8)).toEqual([1, 2, 8]);
});
