import * as t from "@mamba-ts/tensor";
import { canSampleInto, sampleInto } from "@mamba-ts/tensor/capture";
import { build, type Numbers, type OpCase } from "../case.js";

const adam = { lr: 0.01, beta1: 0.9, beta2: 0.95, eps: 1e-8, gradScale: 0.7 };

function adamCase(step: number): OpCase {
  return {
    op: "adamw",
    name: `adamw, step ${step}, two parameters of which one decays`,
    noGradient: true,
    inputs: (r) => ({
      p: r.normal([3, 5]),
      g: r.normal([3, 5]),
      m: r.normal([3, 5]),
      v: r.uniform([3, 5], 0, 1),
      p2: r.normal([7]),
      g2: r.normal([7]),
      m2: r.normal([7]),
      v2: r.uniform([7], 0, 1),
    }),
    run: ({ p, g, m, v, p2, g2, m2, v2 }) => {
      t.adamW(
        { params: [p!, p2!], grads: [g!, g2!], m: [m!, m2!], v: [v!, v2!] },
        { ...adam, step, weightDecay: [0.1, 0] },
      );
      return { p: t.copy(p!), m: t.copy(m!), v: t.copy(v!), p2: t.copy(p2!), m2: t.copy(m2!), v2: t.copy(v2!) };
    },
    oracle: ({ p, g, m, v, p2, g2, m2, v2 }) => {
      const update = (
        x: ArrayLike<number>,
        grad: ArrayLike<number>,
        first: ArrayLike<number>,
        second: ArrayLike<number>,
        decay: number,
      ) => {
        const { lr, beta1, beta2, eps, gradScale } = adam;
        const m1 = Float64Array.from(first, (a, i) => beta1 * a + (1 - beta1) * grad[i]! * gradScale);
        const v1 = Float64Array.from(second, (a, i) => beta2 * a + (1 - beta2) * (grad[i]! * gradScale) ** 2);
        const x1 = Float64Array.from(
          x,
          (a, i) =>
            a - lr * (m1[i]! / (1 - beta1 ** step) / (Math.sqrt(v1[i]! / (1 - beta2 ** step)) + eps) + decay * a),
        );
        return [x1, m1, v1] as const;
      };
      const [q, qm, qv] = update(p!, g!, m!, v!, 0.1);
      const [q2, qm2, qv2] = update(p2!, g2!, m2!, v2!, 0);
      return { p: q, m: qm, v: qv, p2: q2, m2: qm2, v2: qv2 };
    },
  };
}

function appendCase(length: number, position: number): OpCase {
  return {
    op: "kvAppend",
    name: `kvAppend ${length} at ${position} of 6`,
    noGradient: true,
    inputs: (r) => ({ cache: r.normal([2, 6, 3, 2]), update: r.normal([2, length, 3, 2]) }),
    run: ({ cache, update }) => {
      t.kvAppend(cache!, update!, position);
      return { cache: t.copy(cache!) };
    },
    oracle: ({ cache, update }) => ({
      cache: build([2, 6, 6], ([b, i, j]) =>
        i! >= position && i! < position + length
          ? update![(b! * length + i! - position) * 6 + j!]!
          : cache![(b! * 6 + i!) * 6 + j!]!,
      ),
    }),
  };
}

/** Sampling by sorting, in float64: an order of doing it that no device would choose. */
function sampleCase(options: t.SampleOptions, vocab = 37): OpCase {
  const batch = 5;
  return {
    op: "sample",
    name: `sample ${JSON.stringify(options)} of ${vocab}`,
    noGradient: true,
    dtypes: ["float32"],
    inputs: (r) => ({ logits: r.normal([batch, vocab], 2) }),
    run: ({ logits }) => ({ ...t.sample(logits!, options) }),
    oracle: ({ logits }) => {
      const rows = Array.from({ length: batch }, (_, b) => drawRow(logits!, b, vocab, options));
      return {
        token: Float64Array.from(rows, ({ id }) => id),
        logprob: Float64Array.from(rows, ({ logprob }) => logprob),
      };
    },
  };
}

/** What row `b` of logits [batch, vocab] draws. */
function drawRow(logits: Numbers, b: number, vocab: number, options: t.SampleOptions): { id: number; logprob: number } {
  const { temperature = 1, topK = 0, topP = 1, minP = 0, seed = 0, counter = 0 } = options;
  const noise = t.randomWords(logits.length, seed, counter);
  const row = Array.from(logits.slice(b * vocab, (b + 1) * vocab));
  const total = row.reduce((a, l) => a + Math.exp(l), 0);
  let kept = row
    .map((l, id) => ({ id, score: temperature === 0 ? l : l / temperature }))
    .sort((a, c) => c.score - a.score);
  if (temperature === 0) kept = kept.slice(0, 1);
  if (topK > 0) kept = kept.slice(0, topK);
  const mass = kept.reduce((a, k) => a + Math.exp(k.score), 0);
  if (topP < 1) {
    let reached = 0;
    kept = kept.filter((k) => {
      const take = reached < topP;
      reached += Math.exp(k.score) / mass;
      return take;
    });
  }
  kept = kept.filter((k) => Math.exp(k.score - kept[0]!.score) >= minP);
  const drawn = kept
    .map((k) => ({ id: k.id, value: k.score - Math.log(-Math.log((noise[b * vocab + k.id]! + 0.5) / 2 ** 32)) }))
    .sort((a, c) => c.value - a.value);
  const { id } = drawn[0]!;
  return { id, logprob: row[id]! - Math.log(total) };
}

/** Three draws in a row, each row of the batch by its own counter, one of them beyond 2^31; only the last draw's tokens stay. */
function sampleIntoCase(options: Omit<t.SampleOptions, "counter">, vocab = 37): OpCase {
  const counters = [9, 0, 2 ** 32 - 8, 9, 70_000];
  const [batch, draws] = [counters.length, 3];
  return {
    op: "sample",
    name: `sampleInto ${JSON.stringify(options)} of ${vocab}`,
    noGradient: true,
    dtypes: ["float32"],
    inputs: (r) => ({ logits: r.normal([batch, vocab], 2) }),
    run: ({ logits }, backend) => {
      const token = t.tensor(backend, new Int32Array(batch).fill(-1));
      const counter = t.tensor(
        backend,
        Int32Array.from(counters, (c) => c | 0),
      );
      const drawn: t.Tensor[] = [];
      const logprobs: t.Tensor[] = [];
      for (let i = 0; i < draws; i++) {
        // A composition draws by the host's counter alone.
        if (!canSampleInto(logits!, options)) {
          const rows = counters.map((c, b) => {
            const one = t.sample(logits!, { ...options, counter: c + i });
            return { token: t.slice(one.token, 0, b, b + 1), logprob: t.slice(one.logprob, 0, b, b + 1) };
          });
          drawn.push(
            t.concat(
              rows.map((row) => row.token),
              0,
            ),
          );
          logprobs.push(
            t.concat(
              rows.map((row) => row.logprob),
              0,
            ),
          );
          continue;
        }
        logprobs.push(sampleInto(logits!, { token, counter }, options));
        drawn.push(t.copy(token));
      }
      return { token: t.concat(drawn, 0), logprob: t.concat(logprobs, 0) };
    },
    oracle: ({ logits }) => {
      const all = Array.from({ length: draws }, (_, i) =>
        counters.map((counter, b) => drawRow(logits!, b, vocab, { ...options, counter: counter + i })),
      ).flat();
      return {
        token: Float64Array.from(all, ({ id }) => id),
        logprob: Float64Array.from(all, ({ logprob }) => logprob),
      };
    },
  };
}

export const inPlaceCases: readonly OpCase[] = [
  adamCase(1),
  adamCase(17),
  appendCase(2, 0),
  appendCase(3, 3),
  appendCase(1, 5),
  sampleCase({ temperature: 0 }),
  sampleCase({ temperature: 0 }, 4500),
  sampleCase({ seed: 3, counter: 9 }),
  sampleCase({ temperature: 0.7, topK: 5, seed: 2 ** 40 + 1, counter: 1 }),
  sampleCase({ topP: 0.6, seed: 4 }),
  sampleCase({ temperature: 1.5, topK: 11, topP: 0.8, minP: 0.1, seed: 5 }, 130),
  sampleIntoCase({ temperature: 0 }),
  sampleIntoCase({ seed: 2 ** 40 + 3 }, 2100),
  sampleIntoCase({ temperature: 0.8, topK: 20, topP: 0.9, minP: 0.01, seed: 6 }),
];
