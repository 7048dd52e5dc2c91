import type { Backend } from "@mamba-ts/backend";

/** Overwrites a tensor's elements in place from the host: the way inputs reach a captured function. */
export function write(
  t: { readonly backend: Backend; readonly buf: Parameters<Backend["write"]>[0] },
  data: ArrayBufferView,
): void {
  t.backend.write(t.buf, data);
}
