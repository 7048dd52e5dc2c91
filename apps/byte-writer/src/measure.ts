import { ByteTokenizer, decodeBytes } from "@mamba-ts/byte-io";
import { type DraftReport, generate, generateWithDrafts } from "@mamba-ts/generate";
import type { Mamba } from "@mamba-ts/mamba";
import { isWordBoundary, SubwordDrafter } from "@mamba-ts/mambabyte";
import { scope } from "@mamba-ts/tensor";
import type { Subwords } from "./models.js";

export interface Measurement {
  readonly subwords: number;
  readonly beta: number;
  readonly bytes: number;
  readonly plainBytesPerSecond: number;
  readonly draftedBytesPerSecond: number;
  readonly speedUp: number;
  /** Of the drafted bytes. */
  readonly acceptance: number;
  /** Of the bytes made. */
  readonly drafted: number;
  readonly bytesPerPass: number;
  /** Prompts whose continuation differs from plain greedy decoding, and those of them where the two best bytes were further apart than 1e-4. */
  readonly different: number;
  readonly differentBeyondMargin: number;
}

export interface MeasureOptions {
  readonly prompts: readonly Uint8Array[];
  readonly maxTokens: number;
  readonly subwords: number;
  readonly beta: number;
}

/** Plain greedy decoding and decoding with drafts, in turn on the same prompts. */
export async function measure(
  bytes: Mamba,
  { model, encoding }: Subwords,
  options: MeasureOptions,
): Promise<Measurement> {
  const { prompts, maxTokens, subwords, beta } = options;
  const tokenizer = new ByteTokenizer();
  const total = { made: 0, plain: 0, drafted: 0, accepted: 0, guessed: 0, passes: 0, different: 0, beyond: 0 };
  for (const prompt of prompts) {
    const plain: number[] = [];
    let start = performance.now();
    for await (const { id } of generate(bytes, tokenizer, prompt, { temperature: 0, maxTokens })) plain.push(id);
    total.plain += performance.now() - start;
    const drafter = new SubwordDrafter(model, encoding, { subwords });
    const fast: number[] = [];
    start = performance.now();
    const stream = generateWithDrafts(bytes, tokenizer, drafter, prompt, {
      maxTokens,
      beta,
      isBoundary: isWordBoundary,
    });
    let report: DraftReport | undefined;
    while (report === undefined) {
      const { done, value } = await stream.next();
      if (done === true) report = value;
      else fast.push(value.id);
    }
    total.drafted += performance.now() - start;
    drafter.dispose();
    total.made += fast.length;
    total.accepted += report.accepted;
    total.guessed += report.drafted;
    total.passes += report.passes;
    const at = plain.findIndex((id, i) => id !== fast[i]);
    if (at >= 0) {
      total.different++;
      if ((await marginAfter(bytes, [...prompt, ...plain.slice(0, at)])) > 1e-4) total.beyond++;
    }
  }
  const perSecond = (ms: number): number => Math.round((1000 * total.made) / ms);
  return {
    subwords,
    beta,
    bytes: total.made,
    plainBytesPerSecond: perSecond(total.plain),
    draftedBytesPerSecond: perSecond(total.drafted),
    speedUp: round(total.plain / total.drafted),
    acceptance: round(total.accepted / Math.max(1, total.guessed)),
    drafted: round(total.accepted / total.made),
    bytesPerPass: round(total.made / total.passes),
    different: total.different,
    differentBeyondMargin: total.beyond,
  };
}

/** How far the two largest logits after a text are apart. */
async function marginAfter(model: Mamba, text: readonly number[]): Promise<number> {
  const logits = scope(() => model.forward([text], { logits: "last" }).logits!);
  const [first, second] = Array.from(await logits.data()).sort((a, b) => b - a) as [number, number];
  logits.dispose();
  return first - second;
}

function round(x: number): number {
  return Number(x.toFixed(3));
}

/** Places in a text that lie evenly apart, each as the bytes before it. */
export function promptsOf(text: Uint8Array, count: number, length: number): Uint8Array[] {
  const step = Math.floor((text.length - length) / count);
  return Array.from({ length: count }, (_, i) => {
    let end = (i + 1) * step;
    while (end < text.length && !isWordBoundary(text[end - 1]!)) end++;
    return text.slice(Math.max(0, end - length), end);
  });
}

/** A continuation with what was drafted in brackets. */
export async function write(
  bytes: Mamba,
  { model, encoding }: Subwords,
  prompt: string,
  maxTokens: number,
  put: (text: string) => void,
): Promise<DraftReport> {
  const drafter = new SubwordDrafter(model, encoding);
  try {
    const options = { maxTokens, isBoundary: isWordBoundary };
    const stream = generateWithDrafts(bytes, new ByteTokenizer(), drafter, prompt, options);
    let inDraft = false;
    for (;;) {
      const { done, value } = await stream.next();
      if (done === true) {
        put(inDraft ? "]" : "");
        return value;
      }
      if (value.drafted !== inDraft) put(value.drafted ? "[" : "]");
      inDraft = value.drafted;
      put(decodeBytes(Uint8Array.of(value.id)));
    }
  } finally {
    drafter.dispose();
  }
}
