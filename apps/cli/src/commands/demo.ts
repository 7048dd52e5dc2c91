import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import type { Backend } from "@mamba-ts/backend";
import { generate } from "@mamba-ts/generate";
import { openModel } from "../lib/model.js";
import { count, type Output } from "../lib/output.js";

/** The folder of the model that comes with the command. */
export const shippedModel = fileURLToPath(new URL("../model", import.meta.url));

interface Card {
  readonly heldOut: { readonly name: string; readonly bitsPerByte: number; readonly gzipBitsPerByte: number };
}

/** Streams text from the shipped byte-level model. */
export async function demo(
  { prompt, maxTokens, seed }: { prompt: string; maxTokens: number; seed: number },
  { backend, output, signal }: { backend: Backend; output: Output; signal: AbortSignal },
): Promise<void> {
  const { model, tokenizer } = await openModel(shippedModel, backend, { output, signal });
  try {
    const card = JSON.parse(await readFile(`${shippedModel}/card.json`, "utf8")) as Card;
    if (!output.json) process.stdout.write(prompt);
    let text = "";
    let made = 0;
    const start = performance.now();
    for await (const token of generate(model, tokenizer, prompt, {
      maxTokens,
      temperature: 0.7,
      topP: 0.95,
      seed,
      signal,
    })) {
      text += token.text;
      made++;
      if (!output.json) process.stdout.write(token.text);
    }
    const rate = made / ((performance.now() - start) / 1000);
    if (!output.json) process.stdout.write("\n\n");
    const { name, bitsPerByte, gzipBitsPerByte } = card.heldOut;
    output.result(
      [
        `${made} bytes, ${count(Math.round(rate))} bytes per second, backend ${backend.name} (${backend.device})`,
        `a byte-level Mamba with ${count(model.parameterCount)} parameters, trained by \`mamba train\``,
        `on the held-out book (${name}): ${bitsPerByte.toFixed(3)} bits per byte; gzip -9 needs ${gzipBitsPerByte.toFixed(3)}`,
      ].join("\n"),
      {
        prompt,
        text,
        bytes: made,
        bytesPerSecond: rate,
        backend: backend.name,
        device: backend.device,
        parameters: model.parameterCount,
        heldOut: card.heldOut,
      },
    );
  } finally {
    model.dispose();
  }
}
