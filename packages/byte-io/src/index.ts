export { ByteDataError } from "./errors.js";
export { packDocuments, type PackedRows } from "./packing.js";
export { blobSource, type ByteSource, concatSources, expectSize, memorySource } from "./source.js";
export { type DecodeOptions, decodeBytes, encodeBytes, Utf8Decoder } from "./text.js";
export { ByteTokenizer, type StreamDecoder } from "./tokenizer.js";
