import { describeBackend } from "@mamba-ts/backend-testing";
import { createBackend } from "@mamba-ts/backend-webgpu";
import { describe } from "vitest";
import { adapterMissing } from "./adapter.js";

describe.skipIf(adapterMissing !== undefined)("on this machine's adapter", () => {
  describeBackend("webgpu", () => createBackend({ poison: true }), { tolerance: { forward: 5e-5, gradient: 5e-4 } });
});
