import { type Buf, type DType, DTypeError, dtypeLayout, type Operand } from "@mamba-ts/backend";
import type { Drawer } from "./drawer.js";
import type { Kernels } from "./kernels.js";
import type { WasmBuf, WasmMemory } from "./memory.js";

/** A result being written: `at` is where kernels write 32-bit numbers, which `finish` encodes where the dtype is a narrower one. */
export interface Result {
  readonly at: number;
  finish(): Buf;
}

/** One operation: its operands' addresses, its results, and the memory it needs on the way. */
export class Call {
  readonly #temporary: WasmBuf[] = [];
  readonly #made: WasmBuf[] = [];
  readonly kernels: Kernels;
  readonly #drawer: Drawer | undefined;
  constructor(readonly memory: WasmMemory) {
    this.kernels = memory.kernels;
    this.#drawer = memory.drawer.open();
  }

  /** Address of an operand's first element, as it is stored. */
  at(operand: Operand): number {
    return this.memory.own(operand.buf).at + operand.offset * dtypeLayout[operand.dtype].bytes;
  }

  /** Address of an operand's first element; 0 where there is none. */
  optional(operand: Operand | undefined): number {
    return operand === undefined ? 0 : this.at(operand);
  }

  /** Address of a dense operand's elements as float32 (int32 where it is that): a decoded copy of a narrower format. */
  numbers({ buf, dtype }: Operand): number {
    const own = this.memory.own(buf);
    if (dtype === "float32" || dtype === "int32") return own.at;
    const wide = this.scratch(own.count);
    decode(this.kernels, dtype, wide, own.at, own.count);
    return wide;
  }

  /** Memory for `count` 32-bit numbers until the call ends. */
  scratch(count: number): number {
    // Most is little: a decoding step asks for a dozen pieces a layer.
    const small = this.#drawer?.take(4 * count);
    if (small !== undefined) return small;
    const buf = this.memory.alloc(count, "float32");
    this.#temporary.push(buf);
    return buf.at;
  }

  /** A new buffer, freed if the call fails. */
  alloc(count: number, dtype: DType): WasmBuf {
    const buf = this.memory.alloc(count, dtype);
    this.#made.push(buf);
    return buf;
  }

  /** A new buffer that kernels write as 32-bit numbers. */
  result(count: number, dtype: DType): Result {
    const buf = this.alloc(count, dtype);
    if (dtype === "float32" || dtype === "int32") return { at: buf.at, finish: () => buf };
    const at = this.scratch(count);
    return {
      at,
      finish: () => {
        encode(this.kernels, dtype, buf.at, at, count);
        return buf;
      },
    };
  }

  /** Frees a new buffer that is not wanted after all, when the call ends. */
  discard(buf: WasmBuf): void {
    this.#made.splice(this.#made.indexOf(buf), 1);
    this.#temporary.push(buf);
  }

  end(failed: boolean): void {
    this.#drawer?.close();
    for (const buf of this.#temporary) this.memory.free(buf);
    if (failed) for (const buf of this.#made) this.memory.free(buf);
  }
}

/** Runs one operation; a failed one leaves no buffer behind. */
export function operation<T>(memory: WasmMemory, run: (call: Call) => T): T {
  const call = new Call(memory);
  let failed = true;
  try {
    const value = run(call);
    failed = false;
    return value;
  } finally {
    call.end(failed);
  }
}

export function decode(kernels: Kernels, dtype: DType, to: number, from: number, count: number): void {
  if (dtype === "bf16") kernels.bf16_to_float(to, from, count);
  else if (dtype === "f16") kernels.f16_to_float(to, from, count);
  else if (dtype === "q8_0") kernels.q8_to_float(to, from, count / 32);
  else if (dtype === "int32") kernels.int_to_float(to, from, count);
  else throw new DTypeError(`wasm: cannot decode ${dtype}`);
}

export function encode(kernels: Kernels, dtype: DType, to: number, from: number, count: number): void {
  if (dtype === "bf16") kernels.float_to_bf16(to, from, count);
  else if (dtype === "f16") kernels.float_to_f16(to, from, count);
  else if (dtype === "q8_0") kernels.float_to_q8(to, from, count / 32);
  else if (dtype === "int32") kernels.float_to_int(to, from, count);
  else throw new DTypeError(`wasm: cannot encode ${dtype}`);
}
