import type { Backend } from "@mamba-ts/backend";
import * as t from "@mamba-ts/tensor";
import { canSampleInto, capture, sampleInto } from "@mamba-ts/tensor/capture";

const [rows, width] = [3, 40];

/** A few layers over [rows, width]: products, a norm, a scan over the rows and a softmax. */
function layers(x: t.Tensor, weight: t.Tensor, gain: t.Tensor): t.Tensor {
  return t.scope(() => {
    const { y } = t.rmsNorm({ x: t.linear(x, weight), weight: gain, eps: 1e-5 });
    const swept = t.linearScan(t.fill(x.backend, [rows, width], 0.5), t.silu(y), 0);
    return t.softmax(t.linear(swept, weight), 1);
  });
}

/**
 * What `capture` must do, where a backend has it: run once, then replay on changed inputs to the same bits as running gives, in memory that
 * nothing else takes, and give it back. An empty list means it does.
 */
export async function checkCapture(backend: Backend): Promise<string[]> {
  const failures: string[] = [];
  const before = backend.memory().liveBuffers;
  await checkReplays(backend, failures);
  await checkChain(backend, failures);
  await checkAssign(backend, failures);
  checkFailure(backend, failures);
  const leaked = backend.memory().liveBuffers - before;
  if (leaked !== 0) failures.push(`${leaked} buffers are still live`);
  return failures;
}

const random = (backend: Backend, seed: number, shape: readonly number[]): t.Tensor =>
  t.tensor(backend, new t.Rng(seed).normal(t.sizeOf(shape)), shape, "float32");

async function checkReplays(backend: Backend, failures: string[]): Promise<void> {
  const [x, weight] = [random(backend, 1, [rows, width]), random(backend, 2, [width, width])];
  const gain = random(backend, 3, [width]);
  let runs = 0;
  const captured = capture(backend, () => {
    runs++;
    return layers(x, weight, gain);
  });
  for (let i = 0; i < 4; i++) {
    if (i > 0) {
      t.write(x, Float32Array.from(new t.Rng(10 + i).normal(rows * width)));
      captured.replay();
    }
    // Other work meanwhile must take none of the recording's memory.
    for (const size of [width, rows * width, width * width]) t.fill(backend, [size], Number.NaN).dispose();
    const eager = layers(x, weight, gain);
    const [got, want] = [await captured.result.data(), await eager.data()];
    eager.dispose();
    if (!want.some((value) => value !== 0) || got.some((value, j) => !Object.is(value, want[j])))
      failures.push(`replay ${i} gives ${got[0]}, running ${want[0]}`);
  }
  if (runs !== 1) failures.push(`fn ran ${runs} times`);
  if (!captured.isCurrent) failures.push("a recording that was not touched is not current");
  captured.result.dispose();
  captured[Symbol.dispose]();
  captured[Symbol.dispose]();
  for (const made of [x, weight, gain]) made.dispose();
}

/** Draws that feed themselves: scores depend on the token before; tokens are read while later replays run. */
async function checkChain(backend: Backend, failures: string[]): Promise<void> {
  const [vocab, steps] = [33, 6];
  const options = { temperature: 1.3, topK: 9, seed: 5 };
  using table = random(backend, 4, [vocab, vocab]);
  if (!canSampleInto(table, options)) return;
  const token = t.tensor(backend, Int32Array.of(1, 2));
  const counter = t.tensor(backend, Int32Array.of(7, 7));
  const want: number[][] = [];
  for (let i = 0, read = [1, 2]; i < steps; i++) {
    const drawn = t.scope(() =>
      t.sample(t.gather(table, t.tensor(backend, Int32Array.from(read)), 0), { ...options, counter: 7 + i }),
    );
    read = Array.from(await drawn.token.data());
    want.push(read);
    for (const made of [drawn.token, drawn.logprob]) made.dispose();
  }
  const captured = capture(backend, () =>
    t.scope(() => sampleInto(t.gather(table, token, 0), { token, counter }, options)),
  );
  const reads = [token.data()];
  for (let i = 1; i < steps; i++) {
    captured.replay();
    reads.push(token.data());
  }
  const got = (await Promise.all(reads)).map((tokens) => Array.from(tokens));
  if (JSON.stringify(got) !== JSON.stringify(want))
    failures.push(`a chain of draws gives ${got}, step by step ${want}`);
  const counts = Array.from(await counter.data());
  if (counts.some((count) => count !== 7 + steps))
    failures.push(`after ${steps} draws from 7 on the counters are ${counts}`);
  captured.result.dispose();
  captured[Symbol.dispose]();
  for (const made of [token, counter]) made.dispose();
}

/** A tensor that takes over another's content goes on from replay to replay, if the backend can copy to where it lies. */
async function checkAssign(backend: Backend, failures: string[]): Promise<void> {
  const x = random(backend, 6, [rows, width]);
  const step = (): void => t.scope(() => x.assign(t.add(t.mul(x, 0.5), 1)));
  using twin = t.copy(x);
  const captured = capture(backend, step);
  const row = { batch: 1, capacity: 1, length: 1, width: rows * width, position: 0, dtype: "float32" } as const;
  const copies = (backend.fused?.kvAppend?.supports(row) ?? false) !== false;
  if (captured.isCurrent !== copies)
    failures.push(
      copies ? "assign moves a tensor that is captured" : "a tensor has moved, and the recording is current",
    );
  if (copies) for (let i = 0; i < 3; i++) captured.replay();
  for (let i = 0; i < (copies ? 4 : 1); i++) t.scope(() => twin.assign(t.add(t.mul(twin, 0.5), 1)));
  const [got, want] = [await x.data(), await twin.data()];
  if (got.some((value, i) => !Object.is(value, want[i]))) failures.push(`assigned ${got[0]}, running gives ${want[0]}`);
  captured[Symbol.dispose]();
  x.dispose();
}

/** Where `fn` throws, its error comes through, and the next recording works. */
function checkFailure(backend: Backend, failures: string[]): void {
  const boom = new Error("boom");
  for (const x of [t.ones(backend, [4])]) {
    try {
      capture(backend, () =>
        t.scope(() => {
          t.mul(x, 2);
          throw boom;
        }),
      );
      failures.push("an error of fn is lost");
    } catch (error) {
      if (error !== boom) failures.push(`an error of fn becomes ${error}`);
    }
    const captured = capture(backend, () => t.mul(x, 2));
    captured.replay();
    x.dispose();
    if (captured.isCurrent) failures.push("a recording whose input has been freed counts as current");
    captured.result.dispose();
    captured[Symbol.dispose]();
  }
}
