/** Whether tests that need an adapter can run. In CI they must: there a missing adapter fails them. */
import { createBackend } from "@mamba-ts/backend-webgpu";

/** Why there is none, or undefined. */
export const adapterMissing: string | undefined = await createBackend().then(
  (backend) => void backend[Symbol.dispose](),
  (error: Error) => {
    const { process } = globalThis as { process?: { env: { CI?: string }; versions?: { node?: string } } };
    // A browser is only started by those who want these tests.
    const isRequired = process?.versions?.node === undefined || process.env.CI !== undefined;
    if (isRequired) return undefined;
    console.warn(`WebGPU tests are skipped: ${error.message}`);
    return error.message;
  },
);
