/**
 * Reads the pickles torch.save writes for state dicts, and nothing else: tensors, their storages, dictionaries, lists, numbers and strings. A pickle
 * is a program; here only the instructions below exist, and the only functions it may name are four that build values. Nothing is executed.
 */
import { CheckpointError } from "@mamba-ts/backend";
import type { FileDType } from "../file-dtype.js";

/** A strided tensor in a storage of the archive. */
export class PickledTensor {
  constructor(
    readonly storage: PickledStorage,
    readonly offset: number,
    readonly shape: readonly number[],
    readonly strides: readonly number[],
  ) {}
}

export interface PickledStorage {
  readonly dtype: FileDType;
  /** The file data/KEY of the archive. */
  readonly key: string;
  readonly count: number;
}

type Global = { readonly global: string };
class Storage implements PickledStorage {
  constructor(
    readonly dtype: FileDType,
    readonly key: string,
    readonly count: number,
  ) {}
}
const MARK = Symbol("mark");
const NOTHING = Symbol("nothing");

const storageTypes: Readonly<Record<string, FileDType>> = {
  "torch.FloatStorage": "F32",
  "torch.DoubleStorage": "F64",
  "torch.HalfStorage": "F16",
  "torch.BFloat16Storage": "BF16",
  "torch.LongStorage": "I64",
  "torch.IntStorage": "I32",
  "torch.ShortStorage": "I16",
  "torch.CharStorage": "I8",
  "torch.ByteStorage": "U8",
  "torch.BoolStorage": "BOOL",
};
const functions = new Set([
  "collections.OrderedDict",
  "torch._utils._rebuild_tensor_v2",
  "torch._utils._rebuild_parameter",
]);

const MAX_OPERATIONS = 10_000_000;
/** Strides of zero let a few bytes claim any size: elements of a tensor larger than its storage. */
const MAX_EXPANDED = 2 ** 24;

/** The value of a pickle; dictionaries become Maps. Throws CheckpointError naming what is not allowed. */
export function unpickle(bytes: Uint8Array, file: string): unknown {
  return new Unpickler(bytes, file).run();
}

class Unpickler {
  #at = 0;
  readonly #stack: unknown[] = [];
  readonly #memo = new Map<number, unknown>();
  readonly #view: DataView;

  constructor(
    readonly bytes: Uint8Array,
    readonly file: string,
  ) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  #fail(what: string): never {
    throw new CheckpointError(`${this.file}: ${what}`, {
      hint: "only files with tensors alone are read; nothing in them is executed",
    });
  }

  #take(length: number): number {
    const start = this.#at;
    if (start + length > this.bytes.length) this.#fail("the pickle is truncated");
    this.#at += length;
    return start;
  }

  #text(length: number): string {
    const start = this.#take(length);
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(
        this.bytes.subarray(start, start + length),
      );
    } catch {
      this.#fail("the pickle holds text that is not UTF-8");
    }
  }

  #line(): string {
    const end = this.bytes.indexOf(10, this.#at);
    if (end < 0) this.#fail("the pickle is truncated");
    const text = this.#text(end - this.#at);
    this.#at++;
    return text;
  }

  #pop(): unknown {
    if (this.#stack.length === 0) this.#fail("the pickle takes more than it has put");
    return this.#stack.pop();
  }

  #popMark(): unknown[] {
    const mark = this.#stack.lastIndexOf(MARK);
    if (mark < 0) this.#fail("the pickle has no mark where it needs one");
    const items = this.#stack.splice(mark);
    return items.slice(1);
  }

  run(): unknown {
    for (let i = 0; i < MAX_OPERATIONS; i++) {
      const code = this.bytes[this.#take(1)]!;
      if (code === 0x2e) return this.#pop();
      const value = this.#step(code);
      if (value !== NOTHING) this.#stack.push(value);
    }
    this.#fail("the pickle is too long");
  }

  /** Carries out one instruction; what it returns goes on the stack, unless it is NOTHING. */
  #step(code: number): unknown {
    switch (code) {
      case 0x80: // PROTO
        this.#take(1);
        return NOTHING;
      case 0x95: // FRAME
        this.#take(8);
        return NOTHING;
      case 0x28: // MARK
        return MARK;
      case 0x4e: // NONE
        return null;
      case 0x88:
        return true;
      case 0x89:
        return false;
      case 0x4b: // BININT1
        return this.bytes[this.#take(1)];
      case 0x4d: // BININT2
        return this.#view.getUint16(this.#take(2), true);
      case 0x4a: // BININT
        return this.#view.getInt32(this.#take(4), true);
      case 0x8a: // LONG1
        return this.#long(this.bytes[this.#take(1)]!);
      case 0x47: // BINFLOAT
        return this.#view.getFloat64(this.#take(8), false);
      case 0x58: // BINUNICODE
        return this.#text(this.#view.getUint32(this.#take(4), true));
      case 0x8c: // SHORT_BINUNICODE
        return this.#text(this.bytes[this.#take(1)]!);
      case 0x7d: // EMPTY_DICT
        return new Map();
      case 0x5d: // EMPTY_LIST
        return [];
      case 0x29: // EMPTY_TUPLE
        return [];
      case 0x74: // TUPLE
        return this.#popMark();
      case 0x85:
      case 0x86:
      case 0x87: {
        const n = code - 0x84;
        if (this.#stack.length < n) this.#fail("the pickle takes more than it has put");
        return this.#stack.splice(-n);
      }
      case 0x71: // BINPUT
        return this.#put(this.bytes[this.#take(1)]!);
      case 0x72: // LONG_BINPUT
        return this.#put(this.#view.getUint32(this.#take(4), true));
      case 0x94: // MEMOIZE
        return this.#put(this.#memo.size);
      case 0x68: // BINGET
        return this.#get(this.bytes[this.#take(1)]!);
      case 0x6a: // LONG_BINGET
        return this.#get(this.#view.getUint32(this.#take(4), true));
      case 0x63: // GLOBAL
        return this.#global(this.#line(), this.#line());
      case 0x93: {
        // STACK_GLOBAL
        const [name, module] = [this.#pop(), this.#pop()];
        if (typeof module !== "string" || typeof name !== "string")
          this.#fail("the pickle asks for something whose name is no text");
        return this.#global(module, name);
      }
      case 0x73: {
        // SETITEM
        const value = this.#pop();
        return this.#setItems([this.#pop(), value]);
      }
      case 0x75: // SETITEMS
        return this.#setItems(this.#popMark());
      case 0x61: // APPEND
        return this.#append([this.#pop()]);
      case 0x65: // APPENDS
        return this.#append(this.#popMark());
      case 0x51: // BINPERSID
        return this.#storage(this.#pop());
      case 0x52: {
        // REDUCE
        const args = this.#pop();
        return this.#call(this.#pop(), args);
      }
      case 0x62: // BUILD: attributes of a dictionary (its _metadata), of no use here
        this.#pop();
        if (!(this.#stack.at(-1) instanceof Map))
          this.#fail("the pickle sets the attributes of something that is no dictionary");
        return NOTHING;
      default:
        this.#fail(`the pickle holds instruction 0x${code.toString(16)}, which no file of tensors needs`);
    }
  }

  #long(length: number): number {
    const start = this.#take(length);
    let value = 0n;
    for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(this.bytes[start + i]!);
    return Number(BigInt.asIntN(Math.max(1, length * 8), value));
  }

  #put(index: number): typeof NOTHING {
    if (this.#stack.length === 0) this.#fail("the pickle remembers nothing");
    this.#memo.set(index, this.#stack.at(-1));
    return NOTHING;
  }

  #get(index: number): unknown {
    if (!this.#memo.has(index)) this.#fail(`the pickle recalls ${index}, which it has not remembered`);
    return this.#memo.get(index);
  }

  #global(module: string, name: string): Global {
    const global = `${module}.${name}`;
    if (!functions.has(global) && !Object.hasOwn(storageTypes, global))
      this.#fail(`the pickle asks for ${global}, which is not allowed`);
    return { global };
  }

  #setItems(items: readonly unknown[]): typeof NOTHING {
    const target = this.#stack.at(-1);
    if (!(target instanceof Map) || items.length % 2 !== 0)
      this.#fail("the pickle sets items of something that is no dictionary");
    for (let i = 0; i < items.length; i += 2) target.set(items[i], items[i + 1]);
    return NOTHING;
  }

  #append(items: readonly unknown[]): typeof NOTHING {
    const target = this.#stack.at(-1);
    if (!Array.isArray(target)) this.#fail("the pickle appends to something that is no list");
    for (const item of items) target.push(item);
    return NOTHING;
  }

  /** ("storage", type, key, device, count) */
  #storage(id: unknown): Storage {
    const [kind, type, key, , count] = Array.isArray(id) ? (id as unknown[]) : [];
    const dtype = storageTypes[(type as Partial<Global> | undefined)?.global ?? ""];
    if (
      kind !== "storage" ||
      dtype === undefined ||
      typeof key !== "string" ||
      !/^[\w.-]+$/.test(key) ||
      !isCount(count)
    )
      this.#fail("the pickle refers to something that is no storage");
    return new Storage(dtype, key, count);
  }

  #call(callable: unknown, args: unknown): unknown {
    const name = (callable as Partial<Global> | null)?.global;
    const list = Array.isArray(args) ? (args as unknown[]) : this.#fail("the pickle calls without arguments");
    if (name === "collections.OrderedDict" && list.length === 0) return new Map();
    if (name === "torch._utils._rebuild_parameter" && list[0] instanceof PickledTensor) return list[0];
    if (name !== "torch._utils._rebuild_tensor_v2")
      this.#fail(`the pickle calls ${name ?? "something"} in a way that is not allowed`);
    const [storage, offset, shape, strides] = list;
    const isShape = (s: unknown): s is number[] => Array.isArray(s) && s.every(isCount);
    if (
      !(storage instanceof Storage) ||
      !isCount(offset) ||
      !isShape(shape) ||
      !isShape(strides) ||
      shape.length !== strides.length
    )
      this.#fail("the pickle holds a damaged tensor");
    const last = shape.some((n) => n === 0)
      ? offset
      : offset + shape.reduce((n, size, d) => n + (size - 1) * strides[d]!, 0) + 1;
    if (last > storage.count)
      this.#fail(`the pickle holds a tensor [${shape.join(", ")}] that ends outside its storage of ${storage.count}`);
    const elements = shape.reduce((n, size) => n * size, 1);
    if (elements > Math.max(storage.count, MAX_EXPANDED))
      this.#fail(`the pickle expands a storage of ${storage.count} elements to a tensor [${shape.join(", ")}]`);
    return new PickledTensor(storage, offset, shape, strides);
  }
}

function isCount(n: unknown): n is number {
  return typeof n === "number" && Number.isSafeInteger(n) && n >= 0;
}
