import { existsSync } from 'node:fs';
import { chmod, mkdir, readdir, rm, statfs } from 'node:fs/promises';
import { freemem, platform } from 'node:os';
import { join } from 'node:path';

const MEMORY = '/dev/shm';
const PREFIX = 'bulkhead-tests-';
const GIB = 2 ** 30;
/** A whole run has held about one GiB at once. */
const ENOUGH = { room: 4 * GIB, free: 6 * GIB };

/**
 * Where there is memory to spare, everything that this run's tests put into the temporary directory is kept in memory: a database
 * cloned there costs a twentieth of the CPU that it costs on a virtual disk, and each test file has one. A process that dies there
 * loses what it would lose on a disk without fsync, nothing more. Answers how to end it.
 */
export async function keepScratchInMemory(): Promise<() => Promise<void>> {
  if (!(await hasRoom())) return () => Promise.resolve();
  await removeLeftovers();
  const before = process.env['TMPDIR'];
  const home = join(MEMORY, `${PREFIX}${process.pid}`);
  await mkdir(home);
  // The account that PostgreSQL runs as has to get through.
  await chmod(home, 0o711);
  process.env['TMPDIR'] = home;
  return async () => {
    if (before === undefined) delete process.env['TMPDIR'];
    else process.env['TMPDIR'] = before;
    await rm(home, { recursive: true, force: true });
  };
}

async function hasRoom(): Promise<boolean> {
  if (platform() !== 'linux' || !existsSync(MEMORY)) return false;
  const { bavail, bsize } = await statfs(MEMORY);
  return bavail * bsize >= ENOUGH.room && freemem() >= ENOUGH.free;
}

/** Of runs that were killed: on a disk they would only lie about, here they hold memory. */
async function removeLeftovers(): Promise<void> {
  for (const name of await readdir(MEMORY)) {
    const owner = name.startsWith(PREFIX) ? Number(name.slice(PREFIX.length)) : NaN;
    if (!Number.isInteger(owner) || existsSync(`/proc/${owner}`)) continue;
    await rm(join(MEMORY, name), { recursive: true, force: true }).catch(() => undefined);
  }
}
