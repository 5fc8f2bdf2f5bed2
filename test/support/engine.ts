import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { identify } from '../../workers/embedded/owned-processes';
import { startTemporal, type RunningTemporal } from '../../workers/embedded/temporal';
import { rememberFreePorts } from './temporal-ports';

/** A Temporal of its own with a database file, to be killed: on one port for all its lives. */
export interface Engine {
  readonly address: string;
  /** SIGKILL. */
  kill(): Promise<void>;
  /** Starts it again on what its file holds. */
  restart(): Promise<void>;
  /** Ends it and removes its file. */
  stop(): Promise<void>;
}

/** Starts it; a stack on it makes its own namespace there. */
export async function startEngine(binary: string): Promise<Engine> {
  const stateDir = await mkdtemp(join(tmpdir(), 'bulkhead-engine-'));
  await rememberFreePorts(stateDir);
  const start = (): Promise<RunningTemporal> =>
    startTemporal({ binary, state: { stateDir }, namespaces: ['prod'] });
  let server = await start();
  const { address } = server;
  return {
    address,
    async kill() {
      const { pid } = server;
      const { startedAt } = identify(pid) ?? {};
      if (startedAt === undefined) return;
      process.kill(pid, 'SIGKILL');
      while (identify(pid)?.startedAt === startedAt) await sleep(10);
    },
    async restart() {
      server = await start();
      if (server.address !== address)
        throw new Error(`the engine came back at ${server.address}, not at ${address}: its port was taken`);
    },
    async stop() {
      await server.stop();
      await rm(stateDir, { recursive: true, force: true });
    },
  };
}
