import { library } from "@mamba-ts/config/tsup";

export default library({
  index: "src/index.ts",
  node: "src/node.ts",
  "node-browser": "src/node-browser.ts",
  pytorch: "src/pytorch.ts",
  gguf: "src/gguf.ts",
  hub: "src/node/hub.ts",
  "hub-browser": "src/hub-browser.ts",
});
