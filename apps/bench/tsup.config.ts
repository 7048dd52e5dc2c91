import { library } from "@mamba-ts/config/tsup";

export default library(["src/bin.ts", "src/harness.ts", "src/report.ts", "src/statistics.ts"], {
  dts: false,
  external: [/^@tensorflow\//, /^@jax-js\//],
});
