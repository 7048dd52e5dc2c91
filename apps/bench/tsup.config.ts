import { library } from "@mamba-ts/config/tsup";

export default library(
  {
    bin: "src/bin.ts",
    "llama-agree": "src/llama/agree.ts",
    harness: "src/harness.ts",
    report: "src/report.ts",
    statistics: "src/statistics.ts",
  },
  {
    dts: false,
    external: [/^@tensorflow\//, /^@jax-js\//],
  },
);
