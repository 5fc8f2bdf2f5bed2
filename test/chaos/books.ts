import { outsideKey } from '../../contracts/digest';
import type { JournalEntry } from '../../contracts/ledger';
import { verifyJournal } from '../../storage/journal-verify';
import type { TestStack } from '../support/stack';
import type { ChaosEffect } from './systems';
import type { Witness } from './witness';

/** What the journals say happened, held against what the systems outside did. */
export interface Books {
  readonly entries: number;
  /** Tenants whose chain of hashes is broken or does not end where the ledger says. */
  readonly broken: readonly string[];
  /** Writes that the journals call done. */
  readonly successes: number;
  /** Of those, keys that no system has. */
  readonly withoutEffect: readonly string[];
  /** Effects whose key no journal calls done. */
  readonly withoutSuccess: readonly string[];
  /** Keys with more than one effect. */
  readonly severalEffects: readonly string[];
}

interface Facts {
  readonly kind: string;
  readonly run?: string;
  readonly path?: string;
  readonly class?: string;
  readonly result?: string;
  readonly resolution?: string;
}

const PAGE = 500;

/** Reads every journal whole and joins it with the outside log by the key that each call sent. */
export async function compareBooks(
  stack: TestStack,
  witness: Witness,
  tenants: readonly string[],
  effects: readonly ChaosEffect[],
): Promise<Books> {
  const done = new Map<string, string>();
  const broken: string[] = [];
  let entries = 0;
  for (const tenant of tenants) {
    const journal = await wholeJournal(stack, tenant);
    entries += journal.length;
    const [head] =
      (await witness.rows<{ seq: string; hash: string }>(
        `select journal_seq as seq, encode(journal_head, 'hex') as hash from bulkhead.ledgers
         where tenant_id = $1 and environment = $2`,
        [tenant, stack.environment],
      )) ?? [];
    const verdict = verifyJournal(journal, {
      tenantId: tenant,
      environment: stack.environment,
      seq: Number(head?.seq),
      hash: head?.hash ?? '',
    });
    if (!verdict.intact) broken.push(`${tenant}: entry ${verdict.seq}: ${verdict.because}`);
    for (const { facts } of journal) {
      const { run, path, ...said } = JSON.parse(facts) as Facts;
      if (run === undefined || path === undefined || !isSuccess(said)) continue;
      done.set(outsideKey(tenant, stack.environment, run, path), `${tenant} ${run} ${path}`);
    }
  }
  const perKey = new Map<string, number>();
  const withoutSuccess: string[] = [];
  for (const { key, tenant, kind, intent } of effects) {
    if (key !== null) perKey.set(key, (perKey.get(key) ?? 0) + 1);
    if (key === null || !done.has(key)) withoutSuccess.push(`${tenant} ${kind} ${intent}`);
  }
  return {
    entries,
    broken,
    successes: done.size,
    withoutEffect: [...done].flatMap(([key, call]) => (perKey.has(key) ? [] : [call])),
    withoutSuccess,
    severalEffects: [...perKey].flatMap(([key, count]) => (count > 1 ? [done.get(key) ?? key] : [])),
  };
}

/** A write that was settled as done, learned to be so later, or said to be so by a person. */
function isSuccess(facts: Omit<Facts, 'run' | 'path'>): boolean {
  if (facts.kind === 'reviewed') return facts.resolution === 'happened';
  return (
    (facts.kind === 'settled' || facts.kind === 'reconciled') &&
    facts.result === 'succeeded' &&
    (facts.class === 'write' || facts.class === 'high_risk_write')
  );
}

async function wholeJournal(stack: TestStack, tenant: string): Promise<JournalEntry[]> {
  const whole: JournalEntry[] = [];
  for (;;) {
    const page = await stack.store(tenant).journal({ afterSeq: whole.at(-1)?.seq ?? 0, limit: PAGE });
    whole.push(...page);
    if (page.length < PAGE) return whole;
  }
}
