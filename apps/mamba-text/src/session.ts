import { type Backend, CheckpointError } from "@mamba-ts/backend";
import { ByteTokenizer } from "@mamba-ts/byte-io";
import { type GeneratedToken, generate, type Tokenizer } from "@mamba-ts/generate";
import type { Mamba } from "@mamba-ts/mamba";
import { loadMamba } from "@mamba-ts/mamba/load";

export interface Session {
  readonly model: Mamba;
  readonly tokenizer: Tokenizer;
}

/** Loads a checkpoint; one without a tokenizer of its own reads and writes bytes. */
export async function openSession(folder: string, backend: Backend): Promise<Session> {
  const { model, tokenizer } = await loadMamba(folder, { backend });
  return { model, tokenizer: tokenizer ?? new ByteTokenizer() };
}

export interface SayOptions {
  /** Tokens to make, at least 1. */
  readonly maxTokens: number;
  readonly temperature?: number;
  readonly seed?: number;
}

/**
 * Continues a prompt, or what an earlier call returned, token by token. Resolves to all that the next call needs, in this process or
 * another: the last token as four bytes, little-endian (the model has made it but not yet read it), then the model's state.
 * Throws CheckpointError if `from` are bytes of anything else.
 */
export async function say(
  { model, tokenizer }: Session,
  from: string | Uint8Array,
  options: SayOptions,
  onToken: (token: GeneratedToken) => void,
): Promise<Uint8Array> {
  if (typeof from !== "string" && from.length < 4)
    throw new CheckpointError("session: these bytes are no saved session");
  const prompt = typeof from === "string" ? from : [new DataView(from.buffer, from.byteOffset).getInt32(0, true)];
  const state = typeof from === "string" ? model.createState(1) : await model.restoreState(from.slice(4));
  try {
    const last = new DataView(new ArrayBuffer(4));
    for await (const token of generate(model, tokenizer, prompt, { ...options, state })) {
      last.setInt32(0, token.id, true);
      onToken(token);
    }
    return Buffer.concat([new Uint8Array(last.buffer), await state.save()]);
  } finally {
    state.dispose();
  }
}
