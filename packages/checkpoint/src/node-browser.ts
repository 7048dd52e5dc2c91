/** What "./node" is in a browser: there are no folders there, and code that asks for one is told so. */
import { UnsupportedError } from "@mamba-ts/backend";

export async function isFolder(): Promise<boolean> {
  return false;
}

export async function openCheckpoint(path: string): Promise<never> {
  throw new UnsupportedError(`${path}: a page has no folders`, {
    hint: "open the files with openSafetensors(blobReader(file)), or give a hub repository",
  });
}
