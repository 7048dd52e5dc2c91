import * as t from "@mamba-ts/tensor";
import { build, type OpCase } from "../case.js";

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
  const { temperature = 1, topK = 0, topP = 1, minP = 0, seed = 0, counter = 0 } = options;
  return {
    op: "sample",
    name: `sample ${JSON.stringify(options)} of ${vocab}`,
    noGradient: true,
    dtypes: ["float32"],
    inputs: (r) => ({ logits: r.normal([batch, vocab], 2) }),
    run: ({ logits }) => ({ ...t.sample(logits!, options) }),
    oracle: ({ logits }) => {
      const noise = t.randomWords(batch * vocab, seed, counter);
      const token = new Float64Array(batch);
      const logprob = new Float64Array(batch);
      for (let b = 0; b < batch; b++) {
        const row = Array.from(logits!.slice(b * vocab, (b + 1) * vocab));
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
        token[b] = drawn[0]!.id;
        logprob[b] = row[drawn[0]!.id]! - Math.log(total);
      }
      return { token, logprob };
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
  sampleCase({ seed: 3, counter: 9 }),
  sampleCase({ temperature: 0.7, topK: 5, seed: 2 ** 40 + 1, counter: 1 }),
  sampleCase({ topP: 0.6, seed: 4 }),
  sampleCase({ temperature: 1.5, topK: 11, topP: 0.8, minP: 0.1, seed: 5 }, 130),
];
