import type { NamedLimits } from '../../contracts/documents';
import type { JournalEntry } from '../../contracts/ledger';
import type { Bucket } from './quota-meter';
import { MINUTE, type Quota } from './quota-words';
import type { Amounts } from './recount';

interface Facts {
  readonly kind: string;
  /** To the microsecond. */
  readonly at: string;
  readonly quota?: Quota;
  readonly reserved?: Amounts;
  readonly charged?: Amounts | null;
  readonly metered?: readonly string[] | null;
  readonly undoOf?: string | null;
}
export interface BucketRecount {
  /** What each meter's buckets hold, `''` the tenant's own; times in milliseconds, with three places. */
  readonly buckets: Readonly<Record<string, Readonly<Record<'calls' | 'modelTokens', Bucket>>>>;
  /** Admissions that a bucket in force at that moment had no room for. */
  readonly violations: string[];
}

/** A moment of the journal in microseconds. */
const microseconds = (at: string): number =>
  Date.parse(`${at.slice(0, 23)}Z`) * 1_000 + Number(at.slice(23, 26));

/** Fills and drains the buckets once more from the journal alone, and judges each admission by what was in force before it. */
export function recountBuckets(entries: readonly JournalEntry[]): BucketRecount {
  const buckets: Record<string, Record<'calls' | 'modelTokens', Bucket>> = {};
  const violations: string[] = [];
  let quota: Quota | undefined;

  const limits = (name: string): NamedLimits => {
    if (name === '') return quota?.limits ?? {};
    const [kind, id = ''] = name.split(/:(.*)/s);
    return (kind === 'action' ? quota?.perAction : quota?.perAgent)?.[id] ?? {};
  };
  for (const entry of entries) {
    const facts = JSON.parse(entry.facts) as Facts;
    const now = microseconds(facts.at);
    const bucketsOf = (name: string) =>
      (buckets[name] ??= { calls: { level: 0, at: now }, modelTokens: { level: 0, at: now } });
    /** By whole milliseconds, so that looking often drains no less. */
    const drain = (bucket: Bucket, limit: number | undefined): void => {
      const ms = Math.max(0, Math.floor((now - bucket.at) / 1_000));
      bucket.level = limit === undefined ? 0 : Math.max(0, bucket.level - ms * limit);
      bucket.at = limit === undefined ? now : bucket.at + ms * 1_000;
    };
    if (facts.kind === 'opened' || facts.kind === 'limits') {
      quota = facts.quota;
      bucketsOf('');
    }
    const names = ['', ...(facts.metered ?? [])];
    if (facts.kind === 'admitted' && facts.reserved && !facts.undoOf) {
      const { toolCalls, steps, modelTokens } = facts.reserved;
      for (const name of names) {
        const { callsPerMinute, modelTokensPerMinute } = limits(name);
        const parts = [
          [bucketsOf(name).calls, callsPerMinute, Math.min(1, toolCalls + steps)],
          [bucketsOf(name).modelTokens, modelTokensPerMinute, modelTokens],
        ] as const;
        for (const [bucket, limit, units] of parts) {
          if (limit === undefined || units === 0) continue;
          drain(bucket, limit);
          bucket.level += units * MINUTE;
          if (bucket.level > limit * MINUTE)
            violations.push(`${entry.seq}: more of a minute than '${name}' may`);
        }
      }
    } else if (facts.charged) {
      const { modelTokens } = facts.charged;
      for (const name of names) {
        const bucket = bucketsOf(name).modelTokens;
        if (modelTokens > 0) drain(bucket, limits(name).modelTokensPerMinute);
        bucket.level = Math.max(0, bucket.level + modelTokens * MINUTE);
      }
    }
  }
  return { buckets, violations };
}
