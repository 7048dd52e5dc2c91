import { existsSync } from "node:fs";
import { copyFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { type Backend, type FloatDType, InvalidArgumentError } from "@mamba-ts/backend";
import { atomicWrite, openCheckpoint, saveSafetensors } from "@mamba-ts/checkpoint/node";
import {
  loadMambaFrom,
  mambaTensors,
  type Naming,
  toStateSpacesConfig,
  transformersConfigText,
} from "@mamba-ts/mamba/load";
import { bytes, type Output } from "../lib/output.js";

export interface ConvertOptions {
  readonly model: string;
  readonly out: string;
  readonly dtype: FloatDType;
  readonly naming: Naming;
}

/** Writes a checkpoint under another naming or in another dtype. */
export async function convert(
  options: ConvertOptions,
  { backend, output, signal }: { backend: Backend; output: Output; signal: AbortSignal },
): Promise<void> {
  if (resolve(options.model) === resolve(options.out))
    throw new InvalidArgumentError("convert: --out is the folder that is read");
  const { config: given, source } = await openCheckpoint(options.model);
  const model = await loadMambaFrom(given, source, { backend, signal });
  await source.close();
  try {
    const tensors = mambaTensors(model, { dtype: options.dtype, naming: options.naming });
    await saveSafetensors(join(options.out, "model.safetensors"), tensors, { metadata: { format: "pt" }, signal });
    const config =
      options.naming === "transformers"
        ? transformersConfigText(model.config, torchName(options.dtype))
        : `${JSON.stringify(toStateSpacesConfig(model.config), null, 2)}\n`;
    await atomicWrite(join(options.out, "config.json"), config);
    for (const file of ["tokenizer.json", "tokenizer_config.json"])
      if (existsSync(join(options.model, file))) await copyFile(join(options.model, file), join(options.out, file));
    output.result(`${tensors.length} tensors written to ${options.out} as ${options.dtype} (${options.naming} names)`, {
      out: options.out,
      tensors: tensors.length,
      dtype: options.dtype,
      naming: options.naming,
    });
    output.note(bytes(backend.memory().liveBytes));
  } finally {
    model.dispose();
  }
}

function torchName(dtype: FloatDType): string {
  return { float32: "float32", float64: "float64", bf16: "bfloat16", f16: "float16" }[dtype];
}
