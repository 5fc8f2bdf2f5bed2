import { setTimeout as sleep } from 'node:timers/promises';
import { isStorageBusy } from '../../contracts/storage-busy';
import type { CallClass } from '../../contracts/ledger';
import { seeded } from '../support/hostile-urls';
import { digest, type LedgerTenant } from './harness';

/** How long an attempt may be at work: short, so that the reaper has its due soon after the race. */
export const RACE_LEASE_MS = 1_500;
export const RACE_KINDS: readonly { class: CallClass; action: string }[] = [
  { class: 'model', action: 'model.generate' },
  { class: 'model', action: 'model.generate' },
  { class: 'read', action: 'ticket.read' },
  { class: 'write', action: 'ticket.update' },
  { class: 'high_risk_write', action: 'payment.refund' },
];
/** Positions that racers meet on; the others are each one's own. */
const SHARED = 40;
const TRIES = 40;
/** What PostgreSQL says to the superuser, whose connections nobody translates, where the tenant's row was not to be had in time. */
const LOCKED = new Set(['55P03', '57014']);

export interface Racer {
  readonly name: string;
  readonly seed: number;
  /** Open runs, by now. */
  runs(): readonly string[];
  over(): boolean;
  /** One reservation was asked for, and what came of it: a rule, or an answer. */
  asked(what: string): void;
  /** An answer was lost, and asked for again with the same token. */
  unheard(): void;
  /** Tokens that it was told of: each has to be in the journal. */
  told?(kind: 'admitted' | 'settled', token: string): void;
}

/** Asks again, with the same token where there is one, for as long as the answer is lost. */
export async function untilHeard<T>(
  ask: () => Promise<T>,
  unheard: () => void = () => undefined,
): Promise<T> {
  for (let tried = 1; ; tried += 1) {
    try {
      return await ask();
    } catch (error) {
      if (tried === TRIES || !(isStorageBusy(error) || LOCKED.has((error as { code?: string }).code ?? '')))
        throw error;
      unheard();
      await sleep(5 * tried);
    }
  }
}

/** Asks, acts a moment, reports; loses some attempts and reports some of those late; until the race is over. */
export async function race(tenant: LedgerTenant, racer: Racer): Promise<void> {
  const below = seeded(racer.seed);
  const chance = (percent: number): boolean => below(100) < percent;
  const heard = <T>(ask: () => Promise<T>) => untilHeard(ask, racer.unheard);
  const late: Promise<unknown>[] = [];
  for (let turn = 0; !racer.over(); turn += 1) {
    const runs = racer.runs();
    const kind = RACE_KINDS[below(RACE_KINDS.length)]!;
    const shared = chance(30);
    const loses = chance(6);
    const request = tenant.admission(
      runs[below(runs.length)] ?? '',
      shared ? `${below(SHARED)}.0` : `${racer.name}.${turn}`,
      {
        callClass: kind.class,
        action: kind.action,
        digest: digest(shared ? [kind.action, below(2)] : kind.action),
        system: null,
        reversible: kind.class === 'write' ? 'compensable' : null,
        leaseMs: loses ? 1 + below(60) : RACE_LEASE_MS,
        reserve: {
          toolCalls: kind.class === 'model' ? 0 : 1,
          steps: 1,
          microUsd: below(120),
          modelTokens: kind.class === 'model' ? 1 + below(400) : 0,
        },
      },
    );
    const { answer, ...told } = await heard(() => tenant.store.admit(request));
    racer.asked('refusal' in told ? told.refusal.rule : answer);
    if (answer !== 'admitted' && answer !== 'recover') {
      // A host that is refused does not ask again at once.
      if (answer === 'refused')
        await sleep(below('refusal' in told && told.refusal.origin === 'control' ? 40 : 6));
      continue;
    }
    racer.told?.('admitted', request.token);
    if (chance(5)) await heard(() => tenant.store.admit(request));
    const { microUsd, modelTokens } = request.reserve;
    const more = chance(4) ? 3 : 1;
    const settlement = tenant.settlement(request, {
      result: chance(15) ? 'open' : chance(10) ? 'failed' : chance(5) ? 'unknown' : 'succeeded',
      charge: {
        toolCalls: request.reserve.toolCalls,
        microUsd: below(microUsd * more + 1),
        modelTokens: below(modelTokens * more + 1),
      },
    });
    const report = async (): Promise<void> => {
      await heard(() => tenant.store.settle(settlement));
      racer.told?.('settled', request.token);
    };
    if (!loses) {
      await sleep(below(12));
      await report();
    } else if (chance(60)) late.push(sleep(40 + below(400)).then(report));
  }
  await Promise.all(late);
}
