import { execFile, spawn, type ChildProcess, type SpawnOptions } from 'node:child_process';
import { promisify } from 'node:util';

const exec = promisify(execFile);

/** Who the server runs as. Empty for an ordinary user: as that user itself. */
export interface Account {
  readonly uid?: number;
  readonly gid?: number;
  /** Put before the command where the account could not enter the directories otherwise. */
  readonly prefix?: readonly string[];
}

/**
 * PostgreSQL refuses to run as root. Under root this finds the system user `postgres`, making it where there is
 * none, and checks that it can reach `paths`. Where a private directory above (a home, a temp directory) bars it, the
 * server is started with the one capability that lets it look through directories, rather than opening those to all.
 * Throws an Error that names the remedy.
 */
export async function postgresAccount(paths: readonly string[]): Promise<Account> {
  if (process.getuid?.() !== 0) return {};
  const { uid, gid } = (await lookUp()) ?? (await create());
  if (await reaches(uid, gid, [], paths)) return { uid, gid };
  for (const capability of ['dac_read_search', 'dac_override']) {
    const identity = [`--reuid=${uid}`, `--regid=${gid}`, '--clear-groups'];
    const prefix = [
      'setpriv',
      ...identity,
      `--inh-caps=+${capability}`,
      `--ambient-caps=+${capability}`,
      '--',
    ];
    if (await reaches(uid, gid, prefix, paths)) return { uid, gid, prefix };
  }
  throw new Error(
    `PostgreSQL cannot run as root, and user postgres cannot enter ${paths.join(' and ')}: ` +
      'run as an ordinary user, move the project out of the private directory, or set DATABASE_URL',
  );
}

/** Starts a program as the account. */
export function runAs(
  account: Account,
  file: string,
  args: readonly string[],
  options: SpawnOptions,
): ChildProcess {
  const env = {
    PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    LC_ALL: 'C',
    TZ: 'UTC',
  };
  const base = { ...options, cwd: '/', env };
  if (account.prefix) {
    const [command = 'setpriv', ...before] = account.prefix;
    return spawn(command, [...before, file, ...args], base);
  }
  if (account.uid === undefined || account.gid === undefined) return spawn(file, args, base);
  return spawn(file, args, { ...base, uid: account.uid, gid: account.gid });
}

async function lookUp(): Promise<{ uid: number; gid: number } | undefined> {
  try {
    const [uid, gid] = await Promise.all([exec('id', ['-u', 'postgres']), exec('id', ['-g', 'postgres'])]);
    return { uid: Number(uid.stdout), gid: Number(gid.stdout) };
  } catch {
    return undefined;
  }
}

async function create(): Promise<{ uid: number; gid: number }> {
  const made = await exec('useradd', [
    '--system',
    '--user-group',
    '--no-create-home',
    '--shell',
    '/bin/false',
    'postgres',
  ]).catch((cause: unknown) => cause);
  // Another start may have made it in between: what counts is that it is there now.
  const found = await lookUp();
  if (found) return found;
  throw new Error(
    'PostgreSQL cannot run as root and user postgres could not be made: run as an ordinary user',
    { cause: made },
  );
}

async function reaches(
  uid: number,
  gid: number,
  prefix: readonly string[],
  paths: readonly string[],
): Promise<boolean> {
  const account = prefix.length > 0 ? { uid, gid, prefix } : { uid, gid };
  const child = runAs(account, '/bin/sh', ['-c', 'for p; do test -x "$p" || exit 1; done', 'sh', ...paths], {
    stdio: 'ignore',
  });
  return new Promise((done) => {
    child.on('error', () => done(false));
    child.on('close', (code) => done(code === 0));
  });
}
