import { setTimeout as sleep } from 'node:timers/promises';
import type { ExampleContext } from '../../../tools/example';
import type { Tenant } from '../data';
import { tailEffects } from './log-tail';

/** One process to end at once: a worker that serves a tenant or control, or the database while a tenant works. */
export type Blow =
  | { readonly at: 'worker'; readonly serves: Tenant | 'control' }
  | { readonly at: 'database'; readonly serves: Tenant };

export interface Landed {
  readonly missed: string[];
  /** How many of what were ended. */
  readonly told: string;
}

/** So often the logs are looked at: a change was made this long ago at most when its worker dies. */
const LOOK_MS = 2;
/** At least so long between two blows, so that each is seen to be recovered from. */
const REST_MS = 2_000;
/** Without a change of the tenant for so long, something does not come back. */
const WAIT_MS = 60_000;

/**
 * Ends processes by the plan, each in the moment in which a change of its tenant appears in a log outside: the change is
 * made, and most often nobody here knows it yet. Stops where the work is over.
 */
export async function blows(
  context: ExampleContext,
  plan: readonly Blow[],
  work: Promise<unknown>,
): Promise<Landed> {
  let over = false;
  const end = (): void => void (over = true);
  work.then(end, end);
  const since = performance.now();
  const told = { worker: 0, database: 0 };
  const missed: string[] = [];
  for (const blow of plan) {
    if (blow.at === 'database' && !context.machine.ownsDatabase) {
      context.say('PostgreSQL is not ours to stop: left alone');
      continue;
    }
    const change = await nextChange(
      context.stateDir,
      blow.serves === 'control' ? undefined : blow.serves,
      () => over,
    );
    const ended = change && strike(context, blow);
    const seconds = ((performance.now() - since) / 1_000).toFixed(1);
    if (ended) {
      told[blow.at] += 1;
      context.say(
        `${seconds.padStart(6)} s  ${ended}, ${change.operation} of ${change.account} just logged by ${change.system}`,
      );
      await sleep(REST_MS);
    } else {
      missed.push(`${blow.at} of ${blow.serves} was not hit: ${over ? 'the work was done' : 'it was away'}`);
    }
  }
  return { missed, told: `${told.worker} workers killed, PostgreSQL stopped at once ${told.database} times` };
}

/** The next change that a tenant's (or anybody's) run makes; `undefined` once the work is over. Throws where none comes. */
async function nextChange(stateDir: string, tenant: Tenant | undefined, over: () => boolean) {
  const fresh = tailEffects(stateDir);
  for (const deadline = Date.now() + WAIT_MS; Date.now() < deadline;) {
    const change = fresh().find(({ account }) => tenant === undefined || account === `${tenant}-1`);
    if (change || over()) return change;
    await sleep(LOOK_MS);
  }
  throw new Error(`no change of ${tenant ?? 'anybody'} in ${WAIT_MS / 1_000} s: the work does not go on`);
}

function strike({ machine }: ExampleContext, blow: Blow): string | undefined {
  if (blow.at === 'database') {
    const pid = machine.stopDatabaseAtOnce();
    return pid === undefined ? undefined : `PostgreSQL (process ${pid}) stopped at once`;
  }
  const workers = machine.workers();
  const named = (suffix: string) => workers.find(({ name }) => name.endsWith(suffix));
  // A tenant of a dedicated lane has a process of its own; the others share one.
  const worker =
    blow.serves === 'control' ? named('-control') : (named(`-host-${blow.serves}`) ?? named('-host'));
  return worker && machine.killWorker(worker) ? `SIGKILL ${worker.name} (process ${worker.pid})` : undefined;
}
