import { library } from "@mamba-ts/config/tsup";

export default library(["src/index.ts", "src/capture.ts"]);
