/// <reference path="../generated.d.ts" />
import { UnsupportedError } from "@mamba-ts/backend";
import { guarded, type Kernels } from "./kernels.js";

export interface Instance {
  readonly kernels: Kernels;
  readonly memory: WebAssembly.Memory;
  /** The first address that the module leaves to others. */
  readonly heapBase: number;
  /** Where lists of numbers for the next call go. */
  readonly wordsAt: number;
}

const PAGE = 65536;
/** Code, constants and the stack. */
const INITIAL_BYTES = 8 * 2 ** 20;

/** Compiles the kernels that this engine can run, and gives them a memory. */
export async function instantiate(maxMemoryBytes: number): Promise<Instance> {
  if (typeof WebAssembly === "undefined")
    throw new UnsupportedError("wasm: this engine has no WebAssembly", {
      hint: "use @mamba-ts/backend-cpu; a page's content security policy must allow 'wasm-unsafe-eval'",
    });
  const { default: base64 } = await import("../../generated/simd.js");
  let module: WebAssembly.Module;
  try {
    module = await WebAssembly.compile(decode(base64));
  } catch (cause) {
    throw new UnsupportedError("wasm: this engine cannot compile the kernels: it may lack SIMD", {
      hint: "Node 20, Chrome 91, Firefox 89, Safari 16.4 or later; or use @mamba-ts/backend-cpu",
      cause,
    });
  }
  const memory = new WebAssembly.Memory({
    initial: INITIAL_BYTES / PAGE,
    maximum: Math.max(INITIAL_BYTES, Math.floor(maxMemoryBytes)) / PAGE,
  });
  const { exports } = await WebAssembly.instantiate(module, { env: { memory } });
  return {
    kernels: guarded(exports),
    memory,
    heapBase: (exports["__heap_base"] as WebAssembly.Global).value as number,
    wordsAt: (exports["words_at"] as () => number)(),
  };
}

function decode(base64: string): Uint8Array<ArrayBuffer> {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}
