import { BackendError } from "@mamba-ts/backend";
import type { NativeDevice } from "./native.js";

type Calls = { readonly [K in keyof NativeDevice]?: (...args: Parameters<NativeDevice[K]>) => string };

const write = (_: number, view: Uint8Array): string => `writing ${view.byteLength} bytes`;

/** What a call was for, in the message of its failure. Launches, products, transforms and waiting say more where they are made. */
const purposes: Calls = {
  alloc: (bytes) => `allocating ${bytes} bytes`,
  release: () => "giving memory back",
  load: (image) => `loading ${image.byteLength} bytes of kernels`,
  find: (_, name) => `finding the kernel ${name}`,
  describeTiles: (_, parts, rows, columns, boxRows) =>
    `describing a tensor of ${parts} x ${rows} x ${columns} in boxes of ${boxRows} rows`,
  copyIn: write,
  copyInNow: write,
  copy: (_to, _from, bytes) => `copying ${bytes} bytes`,
  set: (_, value, bytes) => `setting ${bytes} bytes to ${value}`,
  beginCapture: () => "starting to record a graph",
  endCapture: () => "recording a graph",
  launchGraph: () => "replaying a graph",
};

/** The device, whose failures are then errors of ours: the driver says what went wrong, often in work from before, and this what it was asked for. */
export function withTypedErrors(device: NativeDevice): NativeDevice {
  for (const [name, purpose] of Object.entries(purposes)) {
    const call = (device[name as keyof NativeDevice] as (...args: unknown[]) => unknown).bind(device);
    const value = (...args: unknown[]): unknown => {
      try {
        return call(...args);
      } catch (cause) {
        const what = (purpose as (...args: unknown[]) => string)(...args);
        throw new BackendError(`cuda: ${what}: ${(cause as Error).message}`, { cause });
      }
    };
    Object.defineProperty(device, name, { value });
  }
  return device;
}
