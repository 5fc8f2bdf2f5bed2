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
  | {
      readonly intact: true;
      /** Numbers that a restore of the database took with it, as the recovery after it has recorded. */
      readonly lost?: readonly { readonly first: number; readonly last: number }[];
    }
  | { readonly intact: false; readonly seq: number; readonly because: string };

/** What stands before the first entry: only this tenant and environment have it. */
export function journalGenesis(tenantId: string, environment: string): string {
  return digestOfTuple(['bulkhead/journal/1', tenantId, environment]);
}

/**
 * Recomputes the chain of a whole journal, oldest first, against its head. Pure: works offline on an export. Finds
 * every change, removal, insertion and reordering, and (because the head comes from elsewhere) a cut tail and a
 * rewrite of everything. Names the first entry that is wrong. Numbers are missing only where the entry after them says
 * that a restored database had lost them: what was lost is told, and its numbers are never given again.
 */
export function verifyJournal(entries: readonly JournalEntry[], head: JournalHead): JournalVerdict {
  let prev = journalGenesis(head.tenantId, head.environment);
  let seq = 0;
  const lost: { first: number; last: number }[] = [];
  for (const entry of entries) {
    seq += 1;
    const gap = entry.seq > seq ? gapBefore(entry) : undefined;
    if (gap?.first === seq && gap.last === entry.seq - 1) {
      lost.push(gap);
      seq = entry.seq;
    }
    const wrong = (because: string): JournalVerdict => ({ intact: false, seq, because });
    if (entry.seq !== seq) return wrong(`entry ${entry.seq} stands where ${seq} should`);
    if (entry.prev !== prev) return wrong('it does not continue the entry before it');
    if (entry.hash !== journalHash(entry)) return wrong('its text is not what was hashed');
    if (entry.at !== timeOf(entry.facts)) return wrong('its time is not the one in its facts');
    prev = entry.hash;
  }
  if (seq !== head.seq) return { intact: false, seq, because: `it ends at ${seq}, its head is ${head.seq}` };
  if (prev !== head.hash) return { intact: false, seq, because: 'its last entry is not its head' };
  return { intact: true, ...(lost.length > 0 && { lost }) };
}

/** The numbers that this entry says were lost before it. */
function gapBefore({ facts }: JournalEntry): { first: number; last: number } | undefined {
  let parsed: Record<string, unknown>;
  try {
    parsed = JSON.parse(facts) as Record<string, unknown>;
  } catch {
    return undefined;
  }
  const { kind, firstLost, lastLost } = parsed;
  return kind === 'renumbered' ? { first: Number(firstLost), last: Number(lastLost) } : undefined;
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
