/** What the builds of the kernels are compared on: sizes that use all of their threads, and some of them. */
import type { Backend, DType } from "@mamba-ts/backend";
import * as t from "@mamba-ts/tensor";

export interface BuildCase {
  readonly name: string;
  readonly run: (backend: Backend) => { readonly [name: string]: t.Tensor };
}

const normal = (backend: Backend, seed: number, shape: readonly number[]): t.Tensor =>
  t.tensor(backend, new t.Rng(seed).normal(t.sizeOf(shape)), shape, "float32");

const matvecs = (
  [
    ["float32", 768, 5],
    ["float32", 33, 70],
    ["f16", 2112, 12],
    ["q8_0", 96, 300],
  ] as const
).map(([dtype, k, n]) => ({
  name: `matrix-vector products, ${dtype} weights, ${k} inputs, ${n} outputs`,
  run: (backend: Backend) => {
    const weight = t.cast(normal(backend, 2, [n, k]), dtype as DType);
    return { y: t.linear(normal(backend, 1, [3, k]), weight) };
  },
}));

const norms = [7, 300, 2500].map((width) => ({
  name: `norms of width ${width} and their gradients`,
  run: (backend: Backend) => {
    const [x, weight] = [normal(backend, 1, [5, width]), normal(backend, 2, [width])];
    const { value, gradients } = t.valueAndGrad(() => {
      const { y } = t.rmsNorm({ x, weight, eps: 1e-5 });
      return { loss: t.sum(t.mul(y, normal(backend, 3, [5, width]))), y };
    }, [x, weight]);
    return { y: value.y, gx: gradients[0]!, gweight: gradients[1]! };
  },
}));

const attentions = [
  [70, 130, true],
  [5, 200, false],
].map(([queries, keys, causal]) => ({
  name: `attention, ${queries} queries, ${keys} keys, causal ${causal}`,
  run: (backend: Backend) => {
    const shape = (n: number, heads: number) => [2, n, heads, 80];
    const q = normal(backend, 1, shape(queries as number, 4));
    const [k, v] = [2, 3].map((seed) => normal(backend, seed, shape(keys as number, 2)));
    return { y: t.attention({ q, k: k!, v: v!, causal: causal as boolean }) };
  },
}));

const products = (
  [
    [[], 130, 260, 300],
    [[], 1100, 1030, 36],
    [[], 256, 384, 112],
    [[], 128, 128, 4096],
    [[2], 128, 256, 32],
    [[], 33, 65, 2050],
    [[3], 40, 50, 20],
    [[], 5, 7, 3],
  ] as const
).flatMap(([lead, m, n, k]) =>
  [false, true].flatMap((transA) =>
    [false, true].map((transB) => ({
      name: `products of f16, [${[...lead, m, k]}]${transA ? "^T" : ""} [${[k, n]}]${transB ? "^T" : ""}`,
      run: (backend: Backend) => {
        const a = t.cast(normal(backend, 1, [...lead, ...(transA ? [k, m] : [m, k])]), "f16");
        const b = t.cast(normal(backend, 2, transB ? [n, k] : [k, n]), "f16");
        return { y: t.matmul(a, b, { transA, transB, out: "float32" }) };
      },
    })),
  ),
);

export const buildCases: readonly BuildCase[] = [...matvecs, ...norms, ...attentions, ...products];

/** All results of a case, on the host. */
export async function valuesOf(
  { run }: BuildCase,
  backend: Backend,
): Promise<[name: string, data: ArrayLike<number>][]> {
  const made = t.scope(() => run(backend));
  const values = await Promise.all(
    Object.entries(made).map(async ([name, x]): Promise<[string, ArrayLike<number>]> => [name, await x.data()]),
  );
  for (const x of Object.values(made)) x.dispose();
  return values;
}
