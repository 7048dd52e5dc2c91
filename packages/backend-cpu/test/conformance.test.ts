import { createCpuBackend } from "@mamba-ts/backend-cpu";
import { describeBackend } from "@mamba-ts/backend-testing";

describeBackend("cpu", () => createCpuBackend({ poison: true }));
