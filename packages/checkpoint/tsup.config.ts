import { library } from "@mamba-ts/config/tsup";

export default library([
  "src/index.ts",
  "src/node.ts",
  "src/node-browser.ts",
  "src/pytorch.ts",
  "src/hub.ts",
  "src/hub-browser.ts",
]);
