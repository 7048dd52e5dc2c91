import { CheckpointError } from "@mamba-ts/backend";
import type { ByteReader } from "../reader.js";

/** Where the bytes of a stored file lie inside an archive. */
export interface ZipEntry {
  readonly name: string;
  readonly size: number;
  /** Of its local header; the data's place follows from that. */
  readonly headerOffset: number;
}

const MAX_DIRECTORY = 2 ** 26;

/** Lists a zip archive (PKWARE APPNOTE 6.3, zip64 included) of stored, that is uncompressed, files: what torch.save writes. */
export async function readZip(reader: ByteReader): Promise<Map<string, ZipEntry>> {
  const fail = (what: string): never => {
    throw new CheckpointError(`${reader.name}: ${what}`, {
      hint: "this is no file of torch.save, or it was cut short",
    });
  };
  const tailSize = Math.min(reader.size, 65557 + 20);
  const tail = await reader.read(reader.size - tailSize, tailSize);
  const view = viewOf(tail);
  let end = tail.length - 22;
  while (end >= 0 && view.getUint32(end, true) !== 0x06054b50) end--;
  if (end < 0) {
    if (await isLegacy(reader))
      throw new CheckpointError(`${reader.name}: it is of PyTorch's format before 1.6, which is not read`, {
        hint: "load it with a current PyTorch and save it again: torch.save(torch.load(path), path)",
      });
    fail("it is no zip archive");
  }
  let count = view.getUint16(end + 10, true);
  let size = view.getUint32(end + 12, true);
  let offset = view.getUint32(end + 16, true);
  if (end >= 20 && view.getUint32(end - 20, true) === 0x07064b50) {
    const at = number64(view, end - 12, fail);
    const record = viewOf(await reader.read(at, 56));
    if (record.getUint32(0, true) !== 0x06064b50) fail("its zip64 record is damaged");
    count = number64(record, 32, fail);
    size = number64(record, 40, fail);
    offset = number64(record, 48, fail);
  }
  if (size > MAX_DIRECTORY || offset + size > reader.size) fail("its directory does not fit the file");
  const directory = viewOf(await reader.read(offset, size));
  const entries = new Map<string, ZipEntry>();
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + 46 > size || directory.getUint32(at, true) !== 0x02014b50) fail("its directory is damaged");
    const method = directory.getUint16(at + 10, true);
    const [nameLength, extraLength, commentLength] = [28, 30, 32].map((k) => directory.getUint16(at + k, true)) as [
      number,
      number,
      number,
    ];
    if (at + 46 + nameLength + extraLength + commentLength > size) fail("its directory is damaged");
    const name = new TextDecoder().decode(new Uint8Array(directory.buffer, directory.byteOffset + at + 46, nameLength));
    let fileSize = directory.getUint32(at + 24, true);
    let headerOffset = directory.getUint32(at + 42, true);
    let packed = directory.getUint32(at + 20, true);
    // Sizes that do not fit 32 bits stand in the zip64 field, in this order, each only if it is needed.
    for (
      let e = at + 46 + nameLength, stop = e + extraLength;
      e + 4 <= stop;
      e += 4 + directory.getUint16(e + 2, true)
    ) {
      if (directory.getUint16(e, true) !== 1) continue;
      let field = e + 4;
      const next = (): number => {
        if (field + 8 > stop) fail("its directory is damaged");
        field += 8;
        return number64(directory, field - 8, fail);
      };
      if (fileSize === 0xffffffff) fileSize = next();
      if (packed === 0xffffffff) packed = next();
      if (headerOffset === 0xffffffff) headerOffset = next();
    }
    if (method !== 0 || packed !== fileSize) fail(`${name} is compressed, which torch.save never does`);
    if (headerOffset + 30 + fileSize > reader.size) fail(`${name} lies outside the file`);
    entries.set(name, { name, size: fileSize, headerOffset });
    at += 46 + nameLength + extraLength + commentLength;
  }
  return entries;
}

/** Position of an entry's first byte. */
export async function dataOffset(reader: ByteReader, { name, headerOffset, size }: ZipEntry): Promise<number> {
  const header = viewOf(await reader.read(headerOffset, 30));
  const start = headerOffset + 30 + header.getUint16(26, true) + header.getUint16(28, true);
  if (header.getUint32(0, true) !== 0x04034b50 || start + size > reader.size)
    throw new CheckpointError(`${reader.name}: ${name} is damaged`);
  return start;
}

function number64(view: DataView, at: number, fail: (what: string) => never): number {
  const n = Number(view.getBigUint64(at, true));
  return Number.isSafeInteger(n) ? n : fail("a size in it is impossible");
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Files of older versions are pickles one after another, the first of them this magic number. */
async function isLegacy(reader: ByteReader): Promise<boolean> {
  const magic = [0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
  if (reader.size < 2 + magic.length) return false;
  const start = await reader.read(2, magic.length);
  return magic.every((byte, i) => start[i] === byte);
}
