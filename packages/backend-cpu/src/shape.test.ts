import { describe, expect, test } from "vitest";
import { at, check, indices, latticeNumbers } from "../test/definitions.js";
import { freeAll, operandOf, poisonedBackend, randomNumbers, sizeOf, upload } from "../test/support.js";

const backend = poisonedBackend();
const lattice = latticeNumbers(randomNumbers(1));

describe("moving elements", () => {
  for (const dtype of ["float32", "float64", "bf16", "f16", "int32"] as const) {
    test(`pad ${dtype}`, async () => {
      for (const shape of [[5], [2, 3, 4], [0, 2], [3, 1]] as const)
        for (let axis = 0; axis < shape.length; axis++)
          for (const [before, after] of [
            [0, 0],
            [2, 1],
            [-1, 2],
            [3, -2],
            [-1, -1],
            [-3, 4],
            [5, -4],
          ] as const) {
            const n = shape[axis]! + before + after;
            if (n < 0) continue;
            const result = shape.map((m, d) => (d === axis ? n : m));
            await check(
              backend,
              [{ data: lattice(sizeOf(shape)).map((x) => 2 * x), shape, dtype }],
              (x) => backend.pad(x, axis, before, after),
              (x) =>
                indices(result).map((i) => {
                  const k = i[axis]! - before;
                  return k >= 0 && k < shape[axis]!
                    ? at(
                        x,
                        shape,
                        i.map((v, d) => (d === axis ? k : v)),
                      )
                    : 0;
                }),
              { dtype, within: 0 },
            );
          }
    });

    test(`concat ${dtype}`, async () => {
      for (const [axis, lengths] of [
        [0, [2, 1]],
        [1, [3, 0, 2]],
        [2, [1]],
        [2, [4, 20]],
      ] as const) {
        const shapes = lengths.map((n) => [2, 3, 4].map((m, d) => (d === axis ? n : m)));
        const total = lengths.reduce((sum: number, n) => sum + n, 0);
        await check(
          backend,
          shapes.map((shape) => ({ data: lattice(sizeOf(shape)).map((x) => 2 * x), shape, dtype })),
          (...xs) => backend.concat(xs, axis),
          (...xs) =>
            indices([2, 3, 4].map((m, d) => (d === axis ? total : m))).map((i) => {
              let k = i[axis]!;
              let part = 0;
              while (k >= lengths[part]!) k -= lengths[part++]!;
              return at(
                xs[part]!,
                shapes[part]!,
                i.map((v, d) => (d === axis ? k : v)),
              );
            }),
          { dtype, within: 0 },
        );
      }
    });

    test(`copy ${dtype}`, async () => {
      const views = [
        { offset: 0, shape: [60], strides: [1] },
        { offset: 3, shape: [5, 4, 3], strides: [1, 5, 20] },
        { offset: 59, shape: [3, 20], strides: [-20, -1] },
        { offset: 7, shape: [2, 3, 2], strides: [0, 4, 0] },
        { offset: 2, shape: [2, 20], strides: [30, 1] },
        { offset: 8, shape: [], strides: [] },
        { offset: 0, shape: [3, 0], strides: [1, 1] },
        { offset: 0, shape: [0, 3], strides: [1, 1] },
      ];
      for (const { offset, shape, strides } of views)
        await check(
          backend,
          [{ data: lattice(80).map((x) => 2 * x), shape: [80], dtype }],
          ({ buf }) => backend.copy({ buf, offset, shape, strides, dtype }),
          (x) => indices(shape).map((i) => x[offset + i.reduce((sum, v, d) => sum + v * strides[d]!, 0)]!),
          { dtype, within: 0 },
        );
    });
  }

  test("16-bit words move untouched, NaN payloads included", async () => {
    const words = Uint16Array.of(0x7f81, 0xffff, 0x8000, 0x0001);
    const x = operandOf(backend.upload(words, "bf16"), [4]);
    const list = upload(backend, [3, 2, 1, 0], [4], "int32");
    const reversed = backend.copy({ ...x, offset: 3, strides: [-1] });
    const gathered = backend.gather(x, list, 0);
    for (const buf of [reversed, gathered])
      expect([...new Uint16Array(await backend.read(buf))]).toEqual([...words].reverse());
    for (const buf of [reversed, gathered]) backend.free(buf);
    freeAll(backend, [x, list]);
  });
});
