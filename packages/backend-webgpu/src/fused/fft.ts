import type { FusedOps } from "@mamba-ts/backend";
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

/** Real transforms of rows, of even lengths without prime factors above 7, as complex ones of half the length: see kernels/fft. */
export class Transforms {
  readonly #turns: Turns;
  constructor(readonly memory: WebGpuMemory) {
    this.#turns = new Turns(memory);
  }

  /** Whether there are passes for `n` real numbers, and rows of them that indices of 32 bits reach. */
  covers(n: number, rows: number): boolean {
    const most = Math.min(this.memory.gpu.maxBufferBytes, 2 ** 32);
    return n >= 4 && n % 2 === 0 && passesOf(n / 2) !== undefined && 4 * rows * (n + 2) <= most;
  }

  /** x [rows, n] to bins [rows, n / 2 + 1, 2], or back. */
  run(x: WebGpuBuf, { rows, n, inverse }: { readonly rows: number; readonly n: number; readonly inverse: boolean }) {
    const { memory } = this;
    const length = n / 2;
    const spectrum = memory.alloc(rows * n, "float32");
    const y = memory.alloc(inverse ? rows * n : rows * (n + 2), "float32");
    if (inverse) {
      this.#real(x, spectrum, rows * length, length, inverse);
      this.#complex(spectrum, y, rows, length, inverse);
    } else {
      this.#complex(x, spectrum, rows, length, inverse);
      this.#real(spectrum, y, rows * (length + 1), length, inverse);
    }
    memory.free(spectrum);
    return y;
  }

  #real(x: WebGpuBuf, y: WebGpuBuf, count: number, length: number, inverse: boolean): void {
    const params = { count, length, inverse: Number(inverse) };
    this.memory.gpu.run("fft/real", { x, turns: this.#turns.get(length), y }, params, { threads: count });
  }

  /** The complex transforms of x [rows, length], which they may end in another buffer than; `into` is what the last pass writes. */
  #complex(x: WebGpuBuf, into: WebGpuBuf, rows: number, length: number, inverse: boolean): void {
    const { memory } = this;
    const turns = this.#turns.get(length);
    const passes = passesOf(length)!;
    // Passes take turns with `other`, so that the last one writes `into`.
    const other = passes.length > 1 ? memory.alloc(2 * rows * length, "float32") : undefined;
    let [from, done] = [x, 1];
    for (const [i, radix] of passes.entries()) {
      const to = (passes.length - 1 - i) % 2 === 0 ? into : other!;
      const isLast = i === passes.length - 1;
      const count = (rows * length) / radix;
      const params = { count, length, done, inverse: Number(inverse), scale: inverse && isLast ? 1 / length : 1 };
      memory.gpu.run("fft/pass", { x: from, turns, y: to }, params, { constants: { RADIX: radix }, threads: count });
      [from, done] = [to, done * radix];
    }
    if (other !== undefined) memory.free(other);
  }
}

export function fft(transforms: Transforms): NonNullable<FusedOps["fft"]> {
  return {
    supports: ({ n, rows, dtype }) => dtype === "float32" && transforms.covers(n, rows),
    forward: (args, d) => ({ outputs: { y: transforms.run(transforms.memory.own(args.x.buf), d) }, saved: [] }),
  };
}
