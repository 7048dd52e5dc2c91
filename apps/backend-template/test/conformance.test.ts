import { describeBackend } from "@mamba-ts/backend-testing";
import { createBackend } from "../src/index.js";

describeBackend("template", createBackend);
