export { ByteDataError } from "./errors.js";
export { type PackedRows, packDocuments } from "./packing.js";
export { type ByteSource, blobSource, concatSources, expectSize, memorySource } from "./source.js";
export { type DecodeOptions, decodeBytes, encodeBytes, Utf8Decoder } from "./text.js";
export { ByteTokenizer, type StreamDecoder } from "./tokenizer.js";
