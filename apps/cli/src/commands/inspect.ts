import { fileDTypeBytes } from "@mamba-ts/checkpoint";
import { openCheckpoint } from "@mamba-ts/checkpoint/node";
import { sizeOf } from "@mamba-ts/tensor";
import { familyOf } from "../lib/family.js";
import { bytes, count, type Output } from "../lib/output.js";

/** Shows what a checkpoint holds, without loading it. */
export async function inspect(
  { model: path, tensors: listTensors }: { model: string; tensors: boolean },
  { output }: { output: Output },
): Promise<void> {
  const { config: json, source, tokenizer } = await openCheckpoint(path);
  try {
    const family = familyOf(json, source);
    const { config, naming, model, stateBytes } = family.describe(json, source);
    const tensors = source.names.map((name) => ({ name, ...source.info(name) }));
    const fileBytes = tensors.reduce((n, t) => n + (t.stored?.bytes ?? sizeOf(t.shape) * fileDTypeBytes[t.dtype]), 0);
    const state = stateBytes === undefined ? undefined : ([stateBytes(0), stateBytes(1024)] as const);
    const summary = {
      family: family.name,
      config,
      naming,
      parameters: model.parameterCount,
      tensors: tensors.length,
      bytes: fileBytes,
      memoryFloat32: model.parameterCount * 4,
      ...(state === undefined ? {} : { stateBytesPerSequence: state[0], stateBytesAfter1024: state[1] }),
      tokenizer: tokenizer !== undefined,
    };
    const lines = [
      ...Object.entries(config).map(([key, value]) => `  ${key.padEnd(14)} ${String(value)}`),
      `${family.name}, naming ${naming}, ${count(summary.parameters)} parameters in ${tensors.length} tensors, ${bytes(fileBytes)} on disk`,
      `memory: ${bytes(summary.memoryFloat32)} of weights in float32${state === undefined ? "" : `, ${stateText(...state)}`}`,
      tokenizer === undefined ? "no tokenizer" : "with tokenizer",
      ...(listTensors ? tensors.map((t) => `  ${t.name} ${t.stored?.type ?? t.dtype} [${t.shape.join(", ")}]`) : []),
    ];
    output.result(lines.join("\n"), listTensors ? { ...summary, list: tensors } : summary);
  } finally {
    await source.close();
  }
}

function stateText(empty: number, after: number): string {
  if (empty === after) return `${bytes(empty)} of state per sequence, whatever its length`;
  return `${bytes(empty)} of state per sequence and ${bytes((after - empty) / 1024)} more with every token`;
}
