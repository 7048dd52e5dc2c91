import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { eigenvalues } from "./eigenvalues.js";
import { SsmError } from "./errors.js";
import { hermitianEigen } from "./hermitian-eigen.js";
import { hippo } from "./hippo.js";
import { identity, matMul, matrixPower, solve, transpose } from "./matrix.js";
import { matrixExponential } from "./matrix-exponential.js";
import { between, relativeError, uniforms } from "./test-support.js";

const size = fc.integer({ min: 1, max: 9 });

describe("matrixExponential", () => {
  it("is the power series, for norms below and above the first scaling", () => {
    fc.assert(
      fc.property(fc.integer(), size, fc.constantFrom(0.01, 0.5, 3), (seed, n, scale) => {
        const a = between(uniforms(seed), n * n, -scale, scale);
        // Summed for a / 1024, and squared ten times: another scaling than the one under test.
        let [series, term] = [identity(n), identity(n)];
        for (let k = 1; k < 20; k++) {
          term = matMul(
            term,
            a.map((v) => v / 1024 / k),
            n,
          );
          series = series.map((v, i) => v + term[i]!);
        }
        expect(relativeError(matrixExponential(a, n), matrixPower(series, n, 1024))).toBeLessThan(1e-11);
      }),
    );
  });

  it("of a stiff system decays, and is the inverse of its opposite", () => {
    const { A } = hippo("legs", 16);
    const product = matMul(
      matrixExponential(
        A.map((v) => 0.1 * v),
        16,
      ),
      matrixExponential(
        A.map((v) => -0.1 * v),
        16,
      ),
      16,
    );
    expect(relativeError(product, identity(16))).toBeLessThan(1e-8);
    expect(() => matrixExponential(Float64Array.of(Number.NaN), 1)).toThrow(SsmError);
  });
});

describe("eigenvalues", () => {
  it("are those that a similarity hides", () => {
    fc.assert(
      fc.property(fc.integer(), size, (seed, n) => {
        const random = uniforms(seed);
        const values = Array.from({ length: n }, () => 4 * random() - 2).sort((a, b) => a - b);
        const hidden = new Float64Array(n * n);
        for (const [i, v] of values.entries()) hidden[i * n + i] = v;
        const s = between(random, n * n).map((v, i) => v + (i % (n + 1) === 0 ? 3 : 0));
        const a = solve(s, matMul(hidden, s, n), n);
        const got = eigenvalues(a, n);
        expect(relativeError(got.re.slice().sort(), Float64Array.from(values), 1)).toBeLessThan(1e-6);
        expect(Math.max(...got.im.map(Math.abs))).toBeLessThan(1e-4);
      }),
    );
  });

  it("come in pairs: rotations, companion matrices, triangular ones exactly", () => {
    const turn = eigenvalues(Float64Array.of(0, -2, 2, 0), 2);
    expect([...turn.im].sort((a, b) => a - b).map((v) => Math.round(v * 1e12) / 1e12)).toEqual([-2, 2]);
    // x^4 - 1: the four roots of unity
    const roots = eigenvalues(Float64Array.of(0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0), 4);
    for (let i = 0; i < 4; i++) expect(Math.hypot(roots.re[i]!, roots.im[i]!)).toBeCloseTo(1, 12);
    expect([...eigenvalues(hippo("legs", 32).A, 32).re].sort((a, b) => b - a)).toEqual(
      Array.from({ length: 32 }, (_, i) => -(i + 1)),
    );
    expect(eigenvalues(new Float64Array(0), 0).re).toHaveLength(0);
    expect(() => eigenvalues(Float64Array.of(Number.NaN), 1)).toThrow(SsmError);
  });
});

describe("hermitianEigen", () => {
  it("diagonalises with orthonormal vectors", () => {
    fc.assert(
      fc.property(fc.integer(), size, (seed, n) => {
        const random = uniforms(seed);
        const [x, y] = [between(random, n * n), between(random, n * n)];
        const re = x.map((v, i) => v + transpose(x, n)[i]!);
        const im = y.map((v, i) => v - transpose(y, n)[i]!);
        const { values, vectors } = hermitianEigen({ re, im }, n);
        // H V = V diag(values), V* V = I
        const [hr, hi] = [
          matMul(re, vectors.re, n).map((v, i) => v - matMul(im, vectors.im, n)[i]!),
          matMul(re, vectors.im, n).map((v, i) => v + matMul(im, vectors.re, n)[i]!),
        ];
        expect(
          relativeError(
            hr,
            vectors.re.map((v, i) => v * values[i % n]!),
            1,
          ),
        ).toBeLessThan(1e-12);
        expect(
          relativeError(
            hi,
            vectors.im.map((v, i) => v * values[i % n]!),
            1,
          ),
        ).toBeLessThan(1e-12);
        const gram = matMul(transpose(vectors.re, n), vectors.re, n).map(
          (v, i) => v + matMul(transpose(vectors.im, n), vectors.im, n)[i]!,
        );
        expect(relativeError(gram, identity(n))).toBeLessThan(1e-12);
        expect([...values]).toEqual([...values].sort((a, b) => a - b));
      }),
    );
  });

  it("wants a Hermitian matrix", () => {
    expect(() => hermitianEigen({ re: Float64Array.of(1, 2, 3, 4), im: new Float64Array(4) }, 2)).toThrow(/conjugates/);
    expect(() => hermitianEigen({ re: new Float64Array(3), im: new Float64Array(3) }, 2)).toThrow(SsmError);
  });
});

it("solve: singular matrices throw, others are inverted", () => {
  expect(() => solve(Float64Array.of(1, 2, 2, 4), Float64Array.of(1, 1), 2)).toThrow(/singular/);
  expect([...solve(Float64Array.of(0, 2, 4, 0), Float64Array.of(6, 8), 2)]).toEqual([2, 3]);
});
