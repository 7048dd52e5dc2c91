/** Element types a tensor may be stored in. `float32` and `int32` are required of every backend, the rest are optional. */
export type DType = FloatDType | "int32" | BlockDType;

/** Floating point types. `bf16` and `f16` are storage and matmul formats: arithmetic on them accumulates in float32. */
export type FloatDType = "float32" | "float64" | "bf16" | "f16";

/**
 * Block-quantised formats. They exist only as weights: in `linear`, `gather` and `cast`.
 * `q8_0` is llama.cpp's: 32 consecutive elements of the last axis share one f16 scale, followed by 32 int8 values.
 */
export type BlockDType = "q8_0";

/** How a dtype lies in memory: every `elements` consecutive elements of the last axis take `bytes` bytes. */
export const dtypeLayout: { readonly [K in DType]: { readonly elements: number; readonly bytes: number } } = {
  float32: { elements: 1, bytes: 4 },
  float64: { elements: 1, bytes: 8 },
  bf16: { elements: 1, bytes: 2 },
  f16: { elements: 1, bytes: 2 },
  int32: { elements: 1, bytes: 4 },
  q8_0: { elements: 32, bytes: 34 },
};
