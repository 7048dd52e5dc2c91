import type { ByteReader } from "./reader.js";
import type { TensorSource } from "./source.js";

export declare function openPytorch(reader: ByteReader): Promise<TensorSource>;
