export { atomicWrite, writeError } from "./node/atomic-write.js";
export { fileReader } from "./node/file-reader.js";
export { isFolder, openCheckpoint, readJson } from "./node/folder.js";
export { openSafetensorsFile } from "./node/open-file.js";
export { saveGguf, saveSafetensors } from "./node/save.js";
