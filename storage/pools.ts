import type { PoolClient } from 'pg';
import type { Environment } from '../contracts/ids';
import type { PoolMember, PoolView } from '../contracts/pools';
import type { PlatformStore } from '../contracts/platform-ports';
import { faultOf, heldUp } from './fault';
import type { ClientPool } from './pool';
import { callsSql } from './sql';

interface Row {
  readonly provider: string;
  readonly pool: string;
  readonly capacity_calls: number;
  readonly capacity_tokens: string | null;
  readonly tenant_id: string;
  readonly weight: number;
  readonly calls: number;
  readonly tokens: string | null;
  readonly inflight: number;
  readonly wants: boolean;
  readonly short: boolean;
  readonly ceiling: number | null;
  readonly promised: number;
  readonly guaranteed: number;
  readonly kept: number;
}
interface Member extends PoolMember {
  readonly tokens: number | null;
  /** `guaranteed`, as the share was last written with. */
  readonly kept: number;
}
interface View extends PoolView {
  readonly members: readonly Member[];
}

const LOCK = 7_240_033;

/** Divides the provider pools and shared capacities of an environment. */
export function poolsOf(pool: ClientPool, environment: Environment): Pick<PlatformStore, 'dividePools'> {
  return {
    async dividePools(divide) {
      return await pool.use(async (client) => {
        const { rows: locked } = await client.query<{ mine: boolean }>(
          'select pg_try_advisory_lock($1, hashtext($2)) as mine',
          [LOCK, environment],
        );
        if (!locked[0]?.mine) return false;
        // On one connection to its end: whoever loses it writes nothing any more, and has lost the lock with it.
        const { rows } = await client.query<Row>(callsSql('pool_members', 1), [environment]);
        for (const view of viewsOf(rows)) await rewrite(client, environment, view, divide(view));
        await client.query('select pg_advisory_unlock($1, hashtext($2))', [LOCK, environment]);
        return true;
      });
    },
  };
}

function viewsOf(rows: readonly Row[]): View[] {
  const views = new Map<string, { first: Row; members: Member[] }>();
  for (const row of rows) {
    const key = `${row.provider} ${row.pool}`;
    const view = views.get(key) ?? { first: row, members: [] };
    views.set(key, view);
    view.members.push({
      tenantId: row.tenant_id,
      weight: row.weight,
      calls: row.calls,
      tokens: row.tokens === null ? null : Number(row.tokens),
      inFlight: row.inflight,
      wants: row.wants,
      short: row.short,
      ceiling: row.ceiling ?? Infinity,
      promised: row.promised,
      guaranteed: row.guaranteed,
      kept: row.kept,
    });
  }
  return [...views.values()].map(({ first, members }) => ({
    provider: first.provider === '' ? null : first.provider,
    pool: first.pool,
    callsInFlight: first.capacity_calls,
    modelTokensPerMinute: first.capacity_tokens === null ? null : Number(first.capacity_tokens),
    members,
  }));
}

/**
 * Brings the shares of a pool to their targets: smaller ones first, and then larger ones out of what that has freed. A slot that a
 * call still holds above its tenant's share is given to nobody, so that shares and calls under way never come to more than
 * the capacity, whatever is admitted meanwhile. What does not fit yet is given the next time.
 */
async function rewrite(
  client: PoolClient,
  environment: Environment,
  view: View,
  targets: ReadonlyMap<string, number>,
): Promise<void> {
  const { provider, pool, callsInFlight, modelTokensPerMinute } = view;
  const write = async (
    { tenantId, guaranteed }: Member,
    calls: number,
    tokens: number | null,
  ): Promise<number | undefined> => {
    try {
      const { rows } = await client.query<{ inflight: number }>(callsSql('set_pool_share', 7, 'inflight'), [
        tenantId,
        environment,
        provider ?? '',
        pool,
        calls,
        tokens,
        guaranteed,
      ]);
      return rows[0]?.inflight;
    } catch (error) {
      // Its row is held, and it keeps what it has: the others are not to wait for it.
      if (heldUp(faultOf(error))) return undefined;
      throw error;
    }
  };
  const tokensFor = (calls: number): number | null =>
    modelTokensPerMinute === null || callsInFlight === 0
      ? modelTokensPerMinute
      : Math.floor((modelTokensPerMinute * calls) / callsInFlight);

  const now = view.members.map((member) => ({ ...member, target: targets.get(member.tenantId) ?? 0 }));
  for (const each of now) {
    if (each.weight === 0) {
      // It is out for good with the last of its calls.
      if (each.inFlight === 0) await write(each, 0, null);
      continue;
    }
    const calls = Math.min(each.calls, each.target);
    const most = tokensFor(each.target);
    const tokens = most === null ? null : Math.min(each.tokens ?? most, most);
    if (calls === each.calls && tokens === each.tokens && each.kept === each.guaranteed) continue;
    const inFlight = await write(each, calls, tokens);
    if (inFlight !== undefined) Object.assign(each, { calls, tokens, inFlight });
  }
  let freeCalls = callsInFlight - sum(now.map(({ calls, inFlight }) => Math.max(calls, inFlight)));
  let freeTokens = (modelTokensPerMinute ?? 0) - sum(now.map(({ tokens }) => tokens ?? 0));
  // Whoever has less than is guaranteed to it is served first, and then who has least of what is its own.
  const below = (each: Member): number => (each.calls < each.guaranteed ? 0 : 1);
  now.sort((a, b) => below(a) - below(b) || a.calls * b.target - b.calls * a.target);
  for (const each of now) {
    if (each.weight === 0 || (each.calls >= each.target && each.tokens === tokensFor(each.target))) continue;
    const held = Math.max(each.calls, each.inFlight);
    const calls = Math.max(each.calls, Math.min(each.target, held + Math.max(0, freeCalls)));
    const wanted = tokensFor(each.target);
    const tokens =
      wanted === null || each.tokens === null
        ? wanted
        : Math.min(wanted, each.tokens + Math.max(0, freeTokens));
    if ((calls === each.calls && tokens === each.tokens) || (await write(each, calls, tokens)) === undefined)
      continue;
    freeCalls -= Math.max(0, calls - held);
    freeTokens -= (tokens ?? 0) - (each.tokens ?? 0);
  }
}

const sum = (of: readonly number[]): number => of.reduce((total, one) => total + one, 0);
