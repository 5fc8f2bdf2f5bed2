import { createHash } from 'node:crypto';
import { digestOfTuple } from '../contracts/digest';
import type { JournalEntry } from '../contracts/ledger';

/** Whose journal it is and where it ends, as a witness outside the database keeps it. */
export interface JournalHead {
  readonly tenantId: string;
  readonly environment: string;
  readonly seq: number;
  /** Hex. */
  readonly hash: string;
}

export type JournalVerdict =
  { readonly intact: true } | { readonly intact: false; readonly seq: number; readonly because: string };

/** What stands before the first entry: only this tenant and environment have it. */
export function journalGenesis(tenantId: string, environment: string): string {
  return digestOfTuple(['bulkhead/journal/1', tenantId, environment]);
}

/**
 * Recomputes the chain of a whole journal, oldest first, against its head. Pure: works offline on an export. Finds
 * every change, removal, insertion and reordering, and (because the head comes from elsewhere) a cut tail and a
 * rewrite of everything. Names the first entry that is wrong.
 */
export function verifyJournal(entries: readonly JournalEntry[], head: JournalHead): JournalVerdict {
  let prev = journalGenesis(head.tenantId, head.environment);
  let seq = 0;
  for (const entry of entries) {
    seq += 1;
    const wrong = (because: string): JournalVerdict => ({ intact: false, seq, because });
    if (entry.seq !== seq) return wrong(`entry ${entry.seq} stands where ${seq} should`);
    if (entry.prev !== prev) return wrong('it does not continue the entry before it');
    if (entry.hash !== journalHash(entry)) return wrong('its text is not what was hashed');
    if (entry.at !== timeOf(entry.facts)) return wrong('its time is not the one in its facts');
    prev = entry.hash;
  }
  if (seq !== head.seq) return { intact: false, seq, because: `it ends at ${seq}, its head is ${head.seq}` };
  if (prev !== head.hash) return { intact: false, seq, because: 'its last entry is not its head' };
  return { intact: true };
}

/** sha256(prev ‖ int8(seq) ‖ int4(length of facts) ‖ facts ‖ body), hex. */
export function journalHash(entry: Pick<JournalEntry, 'seq' | 'facts' | 'body' | 'prev'>): string {
  const facts = Buffer.from(entry.facts, 'utf8');
  const numbers = Buffer.alloc(12);
  numbers.writeBigInt64BE(BigInt(entry.seq));
  numbers.writeInt32BE(facts.length, 8);
  return createHash('sha256')
    .update(Buffer.from(entry.prev, 'hex'))
    .update(numbers)
    .update(facts)
    .update(entry.body, 'utf8')
    .digest('hex');
}

function timeOf(facts: string): unknown {
  return (JSON.parse(facts) as { at?: unknown }).at;
}
