export { type ConcatenatedSource, concatSources } from "./concat.js";
export { ByteDataError, type ByteDataErrorOptions } from "./errors.js";
export { type PackedRows, type PackOptions, packDocuments } from "./packing.js";
export { type ByteSource, blobSource, expectSize, memorySource } from "./source.js";
export { type DecodeOptions, decodeBytes, encodeBytes, Utf8Decoder } from "./text.js";
export { ByteTokenizer, type StreamDecoder } from "./tokenizer.js";
export { type ByteWindow, type ByteWindows, type WindowsOptions, windowsOf } from "./windows.js";
