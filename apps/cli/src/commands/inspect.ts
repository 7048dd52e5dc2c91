import { fileDTypeBytes } from "@mamba-ts/checkpoint";
import { openCheckpoint } from "@mamba-ts/checkpoint/node";
import { Mamba } from "@mamba-ts/mamba";
import { detectNaming, parseConfig } from "@mamba-ts/mamba/load";
import { sizeOf } from "@mamba-ts/tensor";
import { bytes, count, type Output } from "../lib/output.js";

/** Shows what a checkpoint holds, without loading it. */
export async function inspect(
  { model: path, tensors: listTensors }: { model: string; tensors: boolean },
  { output }: { output: Output },
): Promise<void> {
  const { config, source, tokenizer } = await openCheckpoint(path);
  try {
    const model = new Mamba(parseConfig(config));
    const { nLayer, dInner, dState, dConv } = model.config;
    const tensors = source.names.map((name) => ({ name, ...source.info(name) }));
    const fileBytes = tensors.reduce((n, t) => n + sizeOf(t.shape) * fileDTypeBytes[t.dtype], 0);
    const stateBytes = nLayer * dInner * (dState + dConv - 1) * 4;
    const summary = {
      config: model.config,
      naming: detectNaming(source).name,
      parameters: model.parameterCount,
      tensors: tensors.length,
      bytes: fileBytes,
      memoryFloat32: model.parameterCount * 4,
      stateBytesPerSequence: stateBytes,
      tokenizer: tokenizer !== undefined,
    };
    const lines = [
      ...Object.entries(model.config).map(([key, value]) => `  ${key.padEnd(14)} ${String(value)}`),
      `naming ${summary.naming}, ${count(summary.parameters)} parameters in ${tensors.length} tensors, ${bytes(fileBytes)} on disk`,
      `memory: ${bytes(summary.memoryFloat32)} of weights in float32, ${bytes(stateBytes)} of state per sequence, whatever its length`,
      tokenizer === undefined ? "no tokenizer.json" : "with tokenizer.json",
      ...(listTensors ? tensors.map((t) => `  ${t.name} ${t.dtype} [${t.shape.join(", ")}]`) : []),
    ];
    output.result(lines.join("\n"), listTensors ? { ...summary, list: tensors } : summary);
  } finally {
    await source.close();
  }
}
