/** Decoding by replay: the step is recorded once, the drawn tokens stay on the device, and their copies are read while later steps run. */
import {
  cast,
  compare,
  fromHost,
  giveTurn,
  maximum,
  range,
  sample,
  scope,
  type Tensor,
  unsqueeze,
} from "@mamba-ts/tensor";
import { type CapturedFunction, canSampleInto, capture, type DrawState, sampleInto } from "@mamba-ts/tensor/capture";
import { penalised, seenMask } from "./penalty.js";
import { advance, type Drawn, rowShape, rowsOf, type Steps, type StepsFrom } from "./steps.js";
import type { GenerationState } from "./types.js";

/** A step that has been launched, and the copy of its tokens that is under way. */
interface Launched {
  readonly drawn: Promise<Drawn>;
  /** Its log-probabilities, unless they lie where every replay puts them. */
  readonly own: Tensor | undefined;
  isRead: boolean;
}

/** Turns of the microtask queue in which a backend that computes at once has read its result; others take a task at least. */
const AT_ONCE = 16;

/** Whether steps from here can be recorded and replayed, which gives what launching them gives. */
export function canReplay<S extends GenerationState>({ model, logits, options }: StepsFrom<S>): boolean {
  const { capture } = model.backend;
  return capture !== undefined && model.hasFixedStep === true && scope(() => canSampleInto(rowsOf(logits), options));
}

/**
 * The first step draws from the prompt's logits, the second is launched, so that all it needs has been compiled, the third is recorded
 * and the others replay it. A recording that has been overtaken (a weight was replaced, a state moved) is made again.
 */
export class ReplayedSteps<S extends GenerationState> implements Steps {
  readonly #from: StepsFrom<S>;
  readonly #limit: number;
  readonly #ahead: number;
  #draws: DrawState | undefined;
  /** Float32 [batch, vocab], 1 for tokens that have occurred; and all ids, int32 [vocab]. */
  #seen: { readonly marks: Tensor; readonly ids: Tensor } | undefined;
  #recorded: CapturedFunction<Tensor> | undefined;
  /** The step moves what it should write in place: some operation has no kernel that does. */
  #moves = false;
  #launched = 0;
  /** Whether tokens come while the host does something else; known once the first is there. */
  #isConcurrent: boolean | undefined;
  readonly #waiting: Launched[] = [];

  /**
   * @param limit - steps that may be launched in all
   * @param ahead - of which so many before an earlier token has been read; the state is then ahead, too
   */
  constructor(from: StepsFrom<S>, { limit, ahead }: { readonly limit: number; readonly ahead: number }) {
    this.#from = from;
    this.#limit = limit;
    this.#ahead = ahead;
  }

  async next(): Promise<Drawn> {
    const first = this.#waiting[0] ?? this.#launch();
    if (this.#isConcurrent === undefined) {
      for (let i = 0; i < AT_ONCE && !first.isRead; i++) await undefined;
      this.#isConcurrent = !first.isRead;
    }
    // Where the host computes the steps itself, reading ahead would only make every token late.
    if (this.#isConcurrent) while (this.#waiting.length <= this.#ahead && this.#launched < this.#limit) this.#launch();
    const drawn = await first.drawn;
    this.#waiting.shift();
    await giveTurn();
    return drawn;
  }

  #launch(): Launched {
    const logprob = this.#run();
    this.#launched++;
    const { token } = this.#draws!;
    const { backend } = token;
    const drawn = Promise.all([backend.read(token.buf), backend.read(logprob.buf)]).then(([tokens, logprobs]) => {
      launched.isRead = true;
      launched.own?.dispose();
      return { tokens: new Int32Array(tokens), logprobs: new Float32Array(logprobs) };
    });
    // Nobody may be waiting any more when it fails.
    drawn.catch(() => {});
    const own = logprob === this.#recorded?.result ? undefined : logprob;
    const launched: Launched = { drawn, own, isRead: false };
    this.#waiting.push(launched);
    return launched;
  }

  /** One step; its log-probabilities [batch]. */
  #run(): Tensor {
    const { model, logits, penalty, options } = this.#from;
    if (this.#launched === 0) {
      const [batch, vocab] = rowShape(logits);
      if (penalty !== undefined)
        this.#seen = scope(() => ({
          marks: cast(seenMask(penalty, rowsOf(logits)), "float32"),
          ids: range(model.backend, 0, vocab),
        }));
      const { token, logprob } = scope(() => {
        const drawn = sample(this.#fair(rowsOf(logits)), { ...options, counter: 0 });
        this.#mark(drawn.token);
        return drawn;
      });
      this.#draws = { token, counter: fromHost(model.backend, new Int32Array(batch).fill(1), [batch], "int32") };
      logits.dispose();
      return logprob;
    }
    const recorded = this.#recorded;
    if (recorded?.isCurrent === true) {
      recorded.replay();
      return recorded.result;
    }
    this.#forget();
    if (this.#launched === 1 || this.#moves) return this.#step();
    const made = capture(model.backend, () => this.#step());
    if (made.isCurrent) this.#recorded = made;
    else {
      this.#moves = true;
      made[Symbol.dispose]();
    }
    return made.result;
  }

  #step(): Tensor {
    const { token, counter } = this.#draws!;
    return scope(() => {
      const scores = rowsOf(advance(this.#from, token));
      const logprob = sampleInto(this.#fair(scores), { token, counter }, this.#from.options);
      this.#mark(token);
      return logprob;
    });
  }

  /** The scores with the repetition penalty, if there is one. */
  #fair(scores: Tensor): Tensor {
    if (this.#seen === undefined) return scores;
    return penalised(scores, compare("gt", this.#seen.marks, 0), this.#from.penalty!);
  }

  /** Notes the tokens that were drawn where the next step finds them. */
  #mark(token: Tensor): void {
    if (this.#seen === undefined) return;
    const { marks, ids } = this.#seen;
    marks.assign(maximum(marks, cast(compare("eq", unsqueeze(token, 1), ids), "float32"))); // [batch, vocab]
  }

  #forget(): void {
    this.#recorded?.result.dispose();
    this.#recorded?.[Symbol.dispose]();
    this.#recorded = undefined;
  }

  [Symbol.dispose](): void {
    this.#forget();
    for (const { own } of this.#waiting) own?.dispose();
    const { token, counter } = this.#draws ?? {};
    for (const t of [this.#from.logits, token, counter, this.#seen?.marks, this.#seen?.ids]) t?.dispose();
  }
}
