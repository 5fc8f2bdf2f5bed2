import type { NamedLimits } from '../../contracts/documents';
import type { LedgerLimits, LedgerTenant } from './harness';
import { NOTHING, type Amounts } from './recount';

/** From the last to see a day to the first. */
export const RACE_ZONES = ['Pacific/Pago_Pago', 'UTC', 'Pacific/Kiritimati'];

/**
 * Limits for one turn of a race. Caps that bind soon: two or three layers of each meter have a little room above what is used by
 * now, in turn, and the rest is wide meanwhile. Sometimes a cap is below what is used.
 *
 * @param of.below a number from 0 that is less than its argument, drawn.
 */
export async function racingLimits(
  tenant: LedgerTenant,
  of: {
    readonly turn: number;
    readonly turns: number;
    readonly reservations: number;
    readonly below: (most: number) => number;
  },
): Promise<LedgerLimits> {
  const { turn, turns, reservations, below } = of;
  const room = Math.ceil((reservations / turns) * 0.3);
  const used = await usedBy(tenant);
  const layers = (name: string, offset: number): NamedLimits => {
    const of = used.meters[name] ?? NOTHING;
    const all = Object.entries({
      callsInFlight: 3 + below(4),
      toolCallsPerDay: of.toolCalls + Math.ceil(room / 3),
      stepsPerDay: of.steps + Math.ceil(room / 2),
      activeSecondsPerDay: Math.ceil(of.activeMs / 1_000) + 12,
      spendMicroUsdPerDay: of.microUsd + room * 8,
      modelTokensPerDay: of.modelTokens + room * 25,
      highRiskWritesPerDay: of.highRiskWrites + Math.ceil(room / 10),
      callsPerMinute: Math.ceil(room / 2),
      modelTokensPerMinute: 400 + room * 20,
    } satisfies NamedLimits);
    const tight = [turn + offset, turn * 2 + offset + 4, below(all.length)].map((at) => at % all.length);
    const lowered = below(12) === 0 ? 0.9 : 1;
    return Object.fromEntries(
      tight.map((at) => all[at]!).map(([layer, cap]) => [layer, Math.floor(cap * lowered)]),
    );
  };
  const { callsInFlight = 14, toolCallsPerDay = 1_000_000, ...more } = layers('', 0);
  return {
    callsInFlight,
    toolCallsPerDay,
    perRunSteps: turn % 5 === 4 ? used.fewestSteps + 5 : 10_000,
    more,
    perRun: turn % 5 === 2 ? { spendMicroUsd: used.leastSpent + 300 } : {},
    perAction: {
      'payment.refund': layers('action:payment.refund', 1),
      'model.generate': layers('action:model.generate', 3),
      ...(turn % 3 > 0 && { 'ticket.read': layers('action:ticket.read', 5) }),
    },
    perAgent: turn % 4 > 0 ? { support_triage: layers('agent:support_triage', 7) } : {},
    // From the last to see a day to the first, sometimes back and forth: at least one day is closed on the way.
    timeZone: RACE_ZONES[below(4) === 0 ? below(3) : Math.floor((turn * 3) / (turns + 1))] ?? 'UTC',
  };
}

/** What is used by now: of the open day of each meter, and by the runs that have used least. */
async function usedBy(tenant: LedgerTenant) {
  const { rows } = await tenant.world.admin.query<{
    meters: Record<string, Amounts>;
    steps: number;
    spent: number;
  }>(
    `select (select json_object_agg(name, bulkhead.amounts_json((meter).used)) from (
           select '' as name, meter from bulkhead.ledgers where tenant_id = $1
           union all select name, meter from bulkhead.meters where tenant_id = $1) each) as meters,
         min(steps) as steps, min(spent_micro_usd)::int as spent from bulkhead.runs where tenant_id = $1 and state <> 'closed'`,
    [tenant.tenantId],
  );
  const { meters = {}, steps = 0, spent = 0 } = rows[0] ?? {};
  return { meters, fewestSteps: steps, leastSpent: spent };
}
