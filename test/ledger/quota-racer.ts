import { TenantId } from '../../contracts/ids';
import type { TestDatabase } from '../support/database';
import { LedgerTenant, LedgerWorld } from './harness';
import { race } from './quota-racing';

/** What a process of racers is told at its start, as JSON in the environment, and later over its channel. */
export interface RaceOrder {
  readonly database: Omit<TestDatabase, 'drop'>;
  readonly tenantId: string;
  readonly name: string;
  readonly seed: number;
  readonly lanes: number;
  readonly runs: readonly string[];
}
export type RaceWord = { readonly runs: readonly string[] } | 'stop';
/** What it says: `ready`, and from then on how often each answer was heard since the last word. */
export type RacerWord =
  'ready' | { readonly asked: Readonly<Record<string, number>>; readonly unheard: number };
export const RACE_ORDER = 'BULKHEAD_TEST_RACE';

async function main(order: RaceOrder): Promise<void> {
  process.once('disconnect', () => process.kill(process.pid, 'SIGKILL'));
  const world = await LedgerWorld.open(order.lanes, { ...order.database, drop: () => Promise.resolve() });
  const tenant = new LedgerTenant(world, TenantId.parse(order.tenantId));
  let runs = order.runs;
  let over = false;
  let asked: Record<string, number> = {};
  let unheard = 0;
  const say = (word: RacerWord) => process.send?.(word);
  process.on('message', (word: RaceWord) => {
    if (word === 'stop') over = true;
    else runs = word.runs;
  });
  say('ready');
  const telling = setInterval(() => {
    say({ asked, unheard });
    [asked, unheard] = [{}, 0];
  }, 50);
  const lane = (no: number) =>
    race(tenant, {
      name: `${order.name}-${no}`,
      seed: order.seed * 100 + no,
      runs: () => runs,
      over: () => over,
      asked: (what) => (asked[what] = (asked[what] ?? 0) + 1),
      unheard: () => (unheard += 1),
    });
  await Promise.all(Array.from({ length: order.lanes }, (_, no) => lane(no)));
  clearInterval(telling);
  say({ asked, unheard });
  await world.close();
}

if (process.env[RACE_ORDER]) {
  main(JSON.parse(process.env[RACE_ORDER]) as RaceOrder).then(
    () => process.exit(0),
    (error: unknown) => {
      process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
      process.exit(1);
    },
  );
}
