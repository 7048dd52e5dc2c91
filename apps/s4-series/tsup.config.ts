import { library } from "@mamba-ts/config/tsup";

export default library(["src/bin.ts"], { dts: false });
