import type { CudaBuf } from "./memory.js";

/** One parameter of a kernel: a buffer's address (with an offset in elements), null, a number of a type, or bytes in a struct, which is then the only parameter. */
export type Parameter =
  | CudaBuf
  | { readonly pointer: number; readonly of?: CudaBuf | undefined }
  | { readonly i64: number | readonly number[] }
  | { readonly i32: number }
  | { readonly f32: number }
  | { readonly f64: number }
  | { readonly bytes: Uint8Array; readonly align: number; readonly of?: CudaBuf | undefined };

export const i64 = (n: number | readonly number[]): Parameter => ({ i64: n });
export const i32 = (n: number | boolean): Parameter => ({ i32: Number(n) });
export const f32 = (n: number): Parameter => ({ f32: n });
export const f64 = (n: number): Parameter => ({ f64: n });
/** The address of element `offset` of a buffer; null without one. */
export const pointer = (buf: CudaBuf | undefined, offset = 0): Parameter => ({
  pointer: buf === undefined ? 0 : buf.pointer + offset * buf.bytesEach,
  of: buf,
});

const bytes = new Uint8Array(4096);
// One store of the same memory for each type: a DataView with BigInt takes several times as long.
const [ints, doubles, floats] = [
  new Int32Array(bytes.buffer),
  new Float64Array(bytes.buffer),
  new Float32Array(bytes.buffer),
];

/** The parameters as a kernel finds them: each aligned to its size. Valid until the next call. */
export function pack(parameters: readonly Parameter[]): Uint8Array {
  let at = 0;
  const wide = (n: number): void => {
    at = (at + 7) & ~7;
    ints[at >> 2] = n | 0;
    ints[(at >> 2) + 1] = Math.floor(n / 2 ** 32);
    at += 8;
  };
  const narrow = (): number => {
    at = (at + 3) & ~3;
    at += 4;
    return at - 4;
  };
  for (const p of parameters) {
    if ("pointer" in p) wide(p.pointer);
    else if ("i64" in p) for (const n of typeof p.i64 === "number" ? [p.i64] : p.i64) wide(n);
    else if ("i32" in p) ints[narrow() >> 2] = p.i32;
    else if ("f32" in p) floats[narrow() >> 2] = p.f32;
    else if ("bytes" in p) {
      at = Math.ceil(at / p.align) * p.align;
      bytes.set(p.bytes, at);
      at += p.bytes.byteLength;
    } else {
      at = (at + 7) & ~7;
      doubles[at >> 3] = p.f64;
      at += 8;
    }
  }
  return bytes.subarray(0, at);
}
