import { existsSync } from "node:fs";
import { copyFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { type Backend, type FloatDType, InvalidArgumentError } from "@mamba-ts/backend";
import { atomicWrite, saveSafetensors } from "@mamba-ts/checkpoint/node";
import type { Naming } from "@mamba-ts/mamba/load";
import { familyOf } from "../lib/family.js";
import { withCheckpoint } from "../lib/model.js";
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
  const { dtype, naming, out } = options;
  if (resolve(options.model) === resolve(out))
    throw new InvalidArgumentError("convert: --out is the folder that is read");
  const { family, model } = await withCheckpoint(options.model, async ({ config, source }) => {
    const found = familyOf(config, source);
    return { family: found, model: await found.load(config, source, { backend, signal }) };
  });
  try {
    // First, since it refuses what cannot be said.
    const text = family.configText(model as never, naming, torchName(dtype));
    const tensors = [...model.namedParameters()].flatMap(([name, parameter]) =>
      family.write(name, parameter.value, naming, parameter.dtypeIn(dtype)),
    );
    await saveSafetensors(join(out, "model.safetensors"), tensors, { metadata: { format: "pt" }, signal });
    await atomicWrite(join(out, "config.json"), text);
    for (const file of ["tokenizer.json", "tokenizer_config.json"])
      if (existsSync(join(options.model, file))) await copyFile(join(options.model, file), join(out, file));
    output.result(`${tensors.length} tensors written to ${out} as ${dtype} (${naming} names)`, {
      out,
      tensors: tensors.length,
      dtype,
      naming,
    });
    output.note(bytes(backend.memory().liveBytes));
  } finally {
    model.dispose();
  }
}

function torchName(dtype: FloatDType): string {
  return { float32: "float32", float64: "float64", bf16: "bfloat16", f16: "float16" }[dtype];
}
