/** Formats that weights are stored in, in files and in memory. */
export const weightDtypes = ["float32", "bf16", "f16", "q8_0"] as const;
export type WeightDType = (typeof weightDtypes)[number];
