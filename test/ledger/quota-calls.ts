import type { RunId } from '../../contracts/ids';
import type { AdmitRequest, SettleRequest } from '../../contracts/ledger';
import { digest, type LedgerTenant, type LedgerWorld } from './harness';
import type { Amounts } from './recount';

/** Calls and counters for what people try on limits, one by one; quota-model.test.ts mixes them. */

export const NOON = Date.UTC(2025, 2, 10, 12);
export const HOUR = 3_600_000;

export const RESERVE = { toolCalls: 1, steps: 1, microUsd: 0, modelTokens: 0 } as const;
export const model = (modelTokens: number, microUsd = 0): Partial<AdmitRequest> => ({
  callClass: 'model',
  action: 'model.generate',
  reserve: { ...RESERVE, toolCalls: 0, microUsd, modelTokens },
});
export const read = (change: Partial<AdmitRequest> = {}): Partial<AdmitRequest> => ({
  callClass: 'read',
  action: 'ticket.read',
  digest: digest('as before'),
  leaseMs: 1_000,
  ...change,
});

/** The rule that it is refused by, or what else it is answered. */
export async function answerOf(tenant: LedgerTenant, request: AdmitRequest): Promise<string> {
  const answer = await tenant.store.admit(request);
  return answer.answer === 'refused' ? answer.refusal.rule : answer.answer;
}
export async function claim(
  tenant: LedgerTenant,
  runId: RunId,
  path: string,
  change: Partial<AdmitRequest> = {},
): Promise<AdmitRequest> {
  const request = tenant.admission(runId, path, change);
  expect(await tenant.store.admit(request)).toMatchObject({ answer: 'admitted' });
  return request;
}
export const settle = (tenant: LedgerTenant, of: AdmitRequest, change: Partial<SettleRequest> = {}) =>
  tenant.store.settle(tenant.settlement(of, change));

/** What the ledger counts of a tenant: its own, of each limit that is named, and of days that are over, by `name@day`. */
export interface Counters {
  own: { day: number; inflight: number; used: Amounts; tokens: number };
  named: Record<string, { day: number; inflight: number; used: Amounts }>;
  closed: Record<string, Amounts>;
}
export async function countersOf({ admin }: LedgerWorld, { tenantId }: LedgerTenant): Promise<Counters> {
  const { rows } = await admin.query<Counters>(
    `select json_build_object('day', (meter).day, 'inflight', (meter).inflight, 'used', bulkhead.amounts_json((meter).used),
         'tokens', ((meter).model_tokens).level / 60000.0) as own,
       (select coalesce(json_object_agg(name, json_build_object('day', (meter).day, 'inflight', (meter).inflight, 'used', bulkhead.amounts_json((meter).used))), '{}')
         from bulkhead.meters where tenant_id = $1) as named,
       (select coalesce(json_object_agg(name || '@' || day, bulkhead.amounts_json(used)), '{}') from bulkhead.closed_days where tenant_id = $1) as closed
     from bulkhead.ledgers where tenant_id = $1`,
    [tenantId],
  );
  return rows[0]!;
}

/** Days since 1970, in UTC. */
export const dayOf = (time: number): number => Math.floor(time / (24 * HOUR));
