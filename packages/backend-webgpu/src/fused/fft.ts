import type { FftDescriptor, FusedOps } from "@mamba-ts/backend";
import type { Physical } from "../gpu/pool.js";
import type { WebGpuBuf, WebGpuMemory } from "../storage.js";

/** Butterflies that there are passes for; the first that divides what is left is taken. */
const RADICES = [8, 4, 2, 3, 5, 7] as const;
/** Tables kept: a model transforms few lengths again and again. */
const KEPT = 8;

/** The radices of the passes for so many complex numbers; undefined if a larger prime is among its factors. */
function passesOf(length: number): number[] | undefined {
  const passes: number[] = [];
  for (let rest = length; rest > 1; rest /= passes.at(-1)!) {
    const radix = RADICES.find((r) => rest % r === 0);
    if (radix === undefined) return undefined;
    passes.push(radix);
  }
  return passes;
}

/** Tables of exp(-pi i k / length), k <= length, on the device. */
class Turns {
  readonly #made = new Map<number, Physical>();
  constructor(readonly memory: WebGpuMemory) {}

  get(length: number): { readonly physical: Physical; readonly offset: number } {
    const { gpu } = this.memory;
    let physical = this.#made.get(length);
    if (physical === undefined) {
      if (this.#made.size === KEPT) {
        const [oldest, table] = this.#made.entries().next().value!;
        this.#made.delete(oldest);
        gpu.pool.release(table);
      }
      const table = new Float32Array(2 * (length + 1));
      for (let k = 0; k <= length; k++) {
        table[2 * k] = Math.cos((Math.PI * k) / length);
        table[2 * k + 1] = -Math.sin((Math.PI * k) / length);
      }
      // One that no waiting command uses: a host write would overtake such a command.
      physical = gpu.pool.take(table.byteLength, gpu.commands.batch);
      gpu.device.queue.writeBuffer(physical.gpu, 0, table);
      this.#made.set(length, physical);
    }
    return { physical, offset: 0 };
  }
}

/** Real transforms of even lengths without prime factors above 7, as complex ones of half the length: see kernels/fft. */
export function fft(memory: WebGpuMemory): NonNullable<FusedOps["fft"]> {
  const { gpu } = memory;
  const turnsOf = new Turns(memory);

  /** The complex transforms of x [rows, length], which they may end in another buffer than; `into` is what the last pass writes. */
  function transform(x: WebGpuBuf, into: WebGpuBuf, { rows, n, inverse }: FftDescriptor): void {
    const length = n / 2;
    const turns = turnsOf.get(length);
    const passes = passesOf(length)!;
    // Passes take turns with `other`, so that the last one writes `into`.
    const other = passes.length > 1 ? memory.alloc(2 * rows * length, "float32") : undefined;
    let [from, done] = [x, 1];
    for (const [i, radix] of passes.entries()) {
      const to = (passes.length - 1 - i) % 2 === 0 ? into : other!;
      const isLast = i === passes.length - 1;
      const count = (rows * length) / radix;
      const params = { count, length, done, inverse: Number(inverse), scale: inverse && isLast ? 1 / length : 1 };
      gpu.run("fft/pass", { x: from, turns, y: to }, params, { constants: { RADIX: radix }, threads: count });
      [from, done] = [to, done * radix];
    }
    if (other !== undefined) memory.free(other);
  }

  return {
    supports: ({ n, rows, dtype }) =>
      dtype === "float32" &&
      n >= 4 &&
      n % 2 === 0 &&
      passesOf(n / 2) !== undefined &&
      // Indices are 32 bits.
      4 * rows * (n + 2) <= Math.min(gpu.maxBufferBytes, 2 ** 32),
    forward: (args, d) => {
      const { rows, n, inverse } = d;
      const length = n / 2;
      const x = memory.own(args.x.buf);
      const spectrum = memory.alloc(rows * n, "float32");
      const real = (from: WebGpuBuf, y: WebGpuBuf, count: number): void =>
        gpu.run(
          "fft/real",
          { x: from, turns: turnsOf.get(length), y },
          { count, length, inverse: Number(inverse) },
          { threads: count },
        );
      const y = memory.alloc(inverse ? rows * n : rows * (n + 2), "float32");
      if (inverse) {
        real(x, spectrum, rows * length);
        transform(spectrum, y, d);
      } else {
        transform(x, spectrum, d);
        real(spectrum, y, rows * (length + 1));
      }
      memory.free(spectrum);
      return { outputs: { y }, saved: [] };
    },
  };
}
