import { describe, test } from "vitest";
import { at, check, indices, tolerance } from "../test/definitions.js";
import { poisonedBackend, randomNumbers, sizeOf } from "../test/support.js";

const backend = poisonedBackend();
const floats = ["float32", "float64"] as const;
const random = randomNumbers(1);

describe("linearScan", () => {
  for (const dtype of [...floats, "bf16"] as const)
    for (const reverse of [false, true])
      test(`${dtype}${reverse ? " in reverse" : ""}`, async () => {
        for (const shape of [[6], [2, 7, 3], [1], [0], [3, 0, 2]])
          for (let axis = 0; axis < shape.length; axis++)
            await check(
              backend,
              [0, 1].map(() => ({ data: random(sizeOf(shape)), shape, dtype })),
              (a, b) => backend.linearScan(a!, b!, axis, reverse),
              (a, b) =>
                indices(shape).map((index) => {
                  let h = 0;
                  const steps = Array.from({ length: shape[axis]! }, (_, k) => k).filter((k) =>
                    reverse ? k >= index[axis]! : k <= index[axis]!,
                  );
                  for (const k of reverse ? steps.reverse() : steps) {
                    const i = index.map((v, d) => (d === axis ? k : v));
                    h = at(a!, shape, i) * h + at(b!, shape, i);
                  }
                  return h;
                }),
              { dtype, within: 2 * tolerance[dtype]! },
            );
      });
});
