import { describeBackend } from "@mamba-ts/backend-testing";
import { createBackend } from "../src/index.js";

describeBackend("wasm", () => createBackend({ poison: true }));
