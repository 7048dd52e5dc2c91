import { expect, test } from "vitest";
import { freeAll, poisonedBackend, randomNumbers, relativeError, take, upload } from "../../test/support.js";

const backend = poisonedBackend();

test("adamw takes the published step, all parameters in place", async () => {
  const random = randomNumbers(6);
  const d = { lr: 0.01, beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: [0.1, 0], gradScale: 0.5 };
  for (const [dtype, tolerance] of [
    ["float64", 1e-14],
    ["float32", 1e-6],
  ] as const) {
    const sizes = [5, 3];
    const want = sizes.map((n) => ({ p: random(n), m: new Array<number>(n).fill(0), v: new Array<number>(n).fill(0) }));
    const [param, m, v] = (["p", "m", "v"] as const).map((key) =>
      want.map((w) => upload(backend, w[key], [w.p.length], dtype)),
    ) as [never[], never[], never[]];
    for (let step = 1; step <= 3; step++) {
      const gradients = sizes.map(random);
      const grad = gradients.map((g) => upload(backend, g, [g.length], dtype));
      backend.fused!.adamw!.forward({ param, grad, m, v }, { ...d, step });
      freeAll(backend, grad);
      want.forEach((w, k) => {
        w.p = w.p.map((p, i) => {
          const g = d.gradScale * gradients[k]![i]!;
          w.m[i] = d.beta1 * w.m[i]! + (1 - d.beta1) * g;
          w.v[i] = d.beta2 * w.v[i]! + (1 - d.beta2) * g * g;
          const [mHat, vHat] = [w.m[i]! / (1 - d.beta1 ** step), w.v[i]! / (1 - d.beta2 ** step)];
          return p - d.lr * (mHat / (Math.sqrt(vHat) + d.eps) + d.weightDecay[k]! * p);
        });
      });
    }
    for (const [key, operands] of Object.entries({ p: param, m, v }))
      for (const [k, operand] of operands.entries())
        expect(relativeError(await take(backend, (operand as { buf: never }).buf), want[k]![key as "p"])).toBeLessThan(
          tolerance,
        );
  }
});

test("kvAppend writes its slots and no others, whatever the format", async () => {
  for (const dtype of ["float32", "float64", "bf16", "f16"] as const) {
    const [batch, capacity, length, width] = [2, 5, 2, 3];
    const before = Array.from({ length: batch * capacity * width }, (_, i) => i);
    const cache = upload(backend, before, [batch, capacity, width], dtype);
    const update = upload(
      backend,
      Array.from({ length: batch * length * width }, (_, i) => -1 - i),
      [batch, length, width],
      dtype,
    );
    const descriptor = { batch, capacity, length, width, position: 3, dtype };
    expect(backend.fused!.kvAppend!.supports(descriptor)).toBe(true);
    expect(backend.fused!.kvAppend!.forward({ cache, update }, descriptor).outputs.cache).toBe(cache.buf);
    expect(await take(backend, cache.buf)).toEqual(
      before.map((x, i) => {
        const [b, slot, c] = [Math.floor(i / 15), Math.floor(i / 3) % 5, i % 3];
        return slot < 3 ? x : -1 - ((b * length + slot - 3) * width + c);
      }),
    );
    freeAll(backend, [update]);
  }
});
