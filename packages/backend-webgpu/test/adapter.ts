/** Whether tests that need an adapter can run. In CI they must: there a missing adapter fails them. */
import { createBackend } from "@mamba-ts/backend-webgpu";

/** Why there is none, or undefined. */
export const adapterMissing: string | undefined = await createBackend().then(
  (backend) => void backend[Symbol.dispose](),
  (error: Error) => {
    const isRequired = (globalThis as { process?: { env: { CI?: string } } }).process?.env.CI !== undefined;
    if (isRequired) return undefined;
    console.warn(`WebGPU tests are skipped: ${error.message}`);
    return error.message;
  },
);
