export { type FileDType, fileDTypeBytes, isInteger, toFileDType, toTensorBytes, toTensorDType } from "./file-dtype.js";
export { type KeyMap, layeredMap, prefixMap, renameSource } from "./key-map.js";
export { type ByteReader, blobReader, memoryReader, type UrlReaderOptions, urlReader } from "./reader.js";
export { encodeSafetensors, openSafetensors, safetensorsParts, type TensorToWrite } from "./safetensors.js";
export { openSharded } from "./sharded.js";
export { type Checkpoint, combineSources, readTensor, type TensorInfo, type TensorSource } from "./source.js";
export { tensorToWrite } from "./tensors.js";
