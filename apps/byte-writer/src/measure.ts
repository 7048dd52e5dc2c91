import { ByteTokenizer } from "@mamba-ts/byte-io";
import { type DraftReport, generate, generateWithDrafts } from "@mamba-ts/generate";
import type { Mamba } from "@mamba-ts/mamba";
import { isWordBoundary, SubwordDrafter } from "@mamba-ts/mambabyte";
import { scope } from "@mamba-ts/tensor";
import type { Subwords } from "./models.js";

/** How to draft. */
export interface Drafting {
  readonly subwords: number;
  /** See `SubwordDrafterOptions`. */
  readonly minProbability: number;
  readonly beta: number;
  /** As in the paper: after a rejection the byte model goes on alone to the end of the word. */
  readonly toBoundary: boolean;
}

export interface Measurement extends Drafting {
  readonly bytes: number;
  readonly plainBytesPerSecond: number;
  readonly draftedBytesPerSecond: number;
  /** Of all prompts together, and of the slowest and the fastest of them. */
  readonly speedUp: number;
  readonly range: readonly [number, number];
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
}

/** Plain greedy decoding and decoding with drafts, in turn on the same prompts; once before the clock runs. */
export async function measure(
  bytes: Mamba,
  { model, encoding }: Subwords,
  drafting: Drafting,
  { prompts, maxTokens }: MeasureOptions,
): Promise<Measurement> {
  const { subwords, minProbability, beta, toBoundary } = drafting;
  const tokenizer = new ByteTokenizer();
  const plainly = async (prompt: Uint8Array): Promise<number[]> => {
    const all: number[] = [];
    for await (const { id } of generate(bytes, tokenizer, prompt, { temperature: 0, maxTokens })) all.push(id);
    return all;
  };
  const withDrafts = async (prompt: Uint8Array): Promise<{ made: number[]; report: DraftReport }> => {
    using drafter = new SubwordDrafter(model, encoding, { subwords, minProbability });
    const boundary = toBoundary ? { isBoundary: isWordBoundary } : {};
    const stream = generateWithDrafts(bytes, tokenizer, drafter, prompt, { maxTokens, beta, ...boundary });
    const made: number[] = [];
    for (;;) {
      const { done, value } = await stream.next();
      if (done === true) return { made, report: value };
      made.push(value.id);
    }
  };
  const timed = async <T>(run: () => Promise<T>): Promise<readonly [result: T, milliseconds: number]> => {
    const start = performance.now();
    const result = await run();
    return [result, performance.now() - start];
  };
  await plainly(prompts[0]!);
  await withDrafts(prompts[0]!);
  const total = { made: 0, plain: 0, drafted: 0, accepted: 0, guessed: 0, passes: 0, different: 0, beyond: 0 };
  const ratios: number[] = [];
  for (const prompt of prompts) {
    const [plain, slow] = await timed(() => plainly(prompt));
    const [{ made, report }, fast] = await timed(() => withDrafts(prompt));
    total.plain += slow;
    total.drafted += fast;
    ratios.push(slow / fast);
    total.made += made.length;
    total.accepted += report.accepted;
    total.guessed += report.drafted;
    total.passes += report.passes;
    const at = plain.findIndex((id, i) => id !== made[i]);
    if (at >= 0) {
      total.different++;
      if ((await marginAfter(bytes, [...prompt, ...plain.slice(0, at)])) > 1e-4) total.beyond++;
    }
  }
  const perSecond = (ms: number): number => Math.round((1000 * total.made) / ms);
  return {
    ...drafting,
    bytes: total.made,
    plainBytesPerSecond: perSecond(total.plain),
    draftedBytesPerSecond: perSecond(total.drafted),
    speedUp: round(total.plain / total.drafted),
    range: [round(Math.min(...ratios)), round(Math.max(...ratios))],
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
  using drafter = new SubwordDrafter(model, encoding);
  const stream = generateWithDrafts(bytes, new ByteTokenizer(), drafter, prompt, { maxTokens });
  let inDraft = false;
  for (;;) {
    const { done, value } = await stream.next();
    if (done === true) {
      put(inDraft ? "]" : "");
      return value;
    }
    if (value.drafted !== inDraft) put(value.drafted ? "[" : "]");
    inDraft = value.drafted;
    put(value.text);
  }
}
