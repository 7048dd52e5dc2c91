import type { Backend } from "@mamba-ts/backend";
import { backendOn } from "./backend.js";
import { PagedMemory } from "./storage.js";

export interface TemplateBackendOptions {
  /** Fills every new buffer with values nobody expects: shows an operation that does not write all of its result. For tests. */
  readonly poison?: boolean;
}

/**
 * What a backend's package exports: `mamba --backend PACKAGE` calls it without arguments.
 *
 * Your backend: open the device here, and throw UnsupportedError with a hint where there is none. It is a promise because most
 * devices have something to wait for.
 */
export async function createBackend({ poison = false }: TemplateBackendOptions = {}): Promise<Backend> {
  return backendOn(new PagedMemory({ poison }));
}
