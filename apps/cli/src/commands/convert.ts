import { existsSync } from "node:fs";
import { copyFile } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { type Backend, type DType, InvalidArgumentError } from "@mamba-ts/backend";
import { atomicWrite, saveGguf, saveSafetensors } from "@mamba-ts/checkpoint/node";
import type { Naming } from "@mamba-ts/mamba/load";
import { familyOf } from "../lib/family.js";
import { withCheckpoint } from "../lib/model.js";
import { bytes, type Output } from "../lib/output.js";
import type { WeightDType } from "../lib/weight-dtypes.js";

export interface ConvertOptions {
  readonly model: string;
  readonly out: string;
  readonly dtype: WeightDType;
  readonly naming: Naming;
}

/** Writes a checkpoint under another naming, in another dtype, or as a GGUF file. */
export async function convert(
  options: ConvertOptions,
  { backend, output, signal }: { backend: Backend; output: Output; signal: AbortSignal },
): Promise<void> {
  const { dtype, naming, out } = options;
  if (resolve(options.model) === resolve(out)) throw new InvalidArgumentError("convert: --out is what is read");
  const { family, model, tokenizer } = await withCheckpoint(options.model, async ({ config, source, tokenizer }) => {
    const found = familyOf(config, source);
    // In float32, so that every format is made from the same numbers.
    return { family: found, model: await found.load(config, source, { backend, signal, dtype: "float32" }), tokenizer };
  });
  const toGguf = out.endsWith(".gguf");
  const report = (tensors: number): void => {
    const names = toGguf ? "GGUF" : naming;
    output.result(`${tensors} tensors written to ${out} as ${dtype} (${names} names)`, {
      out,
      tensors,
      dtype,
      naming: names,
    });
    output.note(bytes(backend.memory().liveBytes));
  };
  try {
    if (toGguf) {
      const name = basename(resolve(options.model)).replace(/\.gguf$/, "");
      const file = family.gguf(model as never, { dtype, tokenizer, name });
      await saveGguf(out, file, { signal });
      return report(file.tensors.length);
    }
    // First, since it refuses what cannot be said.
    const text = family.configText(model as never, naming, torchName(dtype));
    const tensors = [...model.namedParameters()].flatMap(([name, parameter]) =>
      family.write(name, parameter.value, naming, parameter.dtypeIn(dtype)),
    );
    await saveSafetensors(join(out, "model.safetensors"), tensors, { metadata: { format: "pt" }, signal });
    await atomicWrite(join(out, "config.json"), text);
    if (options.model.endsWith(".gguf") && tokenizer !== undefined) {
      await atomicWrite(join(out, "tokenizer.json"), JSON.stringify(tokenizer.json));
      await atomicWrite(join(out, "tokenizer_config.json"), JSON.stringify(tokenizer.config));
    }
    for (const file of ["tokenizer.json", "tokenizer_config.json"])
      if (existsSync(join(options.model, file))) await copyFile(join(options.model, file), join(out, file));
    report(tensors.length);
  } finally {
    model.dispose();
  }
}

/** What config.json calls it: blocks are float32 to readers that do not know them. */
function torchName(dtype: DType): string {
  return { float32: "float32", float64: "float64", bf16: "bfloat16", f16: "float16" }[dtype as string] ?? "float32";
}
