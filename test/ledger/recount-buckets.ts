import type { NamedLimits } from '../../contracts/documents';
import type { JournalEntry } from '../../contracts/ledger';
import type { Bucket } from './quota-meter';
import { MINUTE, type Quota } from './quota-words';
import type { Amounts } from './recount';

interface Facts {
  readonly kind: string;
  readonly token?: string;
  /** Of a take-over: the attempt whose reservation it goes on with. */
  readonly from?: string;
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
  /** What has left each meter's bucket of model tokens, and what will have once a reservation, by attempt and meter, has. */
  const gone: Record<string, number> = {};
  const ends = new Map<string, Record<string, { end: number; reserved: number }>>();
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
    const drainTokens = (name: string): Bucket => {
      const bucket = bucketsOf(name).modelTokens;
      const before = bucket.level;
      drain(bucket, limits(name).modelTokensPerMinute);
      gone[name] = (gone[name] ?? 0) + before - bucket.level;
      return bucket;
    };
    const names = ['', ...(facts.metered ?? [])];
    const token = facts.token ?? '';
    if (facts.kind === 'recovering') ends.set(token, ends.get(facts.from ?? '') ?? {});
    if (facts.kind === 'admitted' && facts.reserved && !facts.undoOf) {
      const { toolCalls, steps, modelTokens } = facts.reserved;
      for (const name of names) {
        // A meter begins with the first call that it is of, limited by then or not.
        const { calls } = bucketsOf(name);
        const { callsPerMinute, modelTokensPerMinute } = limits(name);
        const fill = (bucket: Bucket, limit: number, units: number): void => {
          bucket.level += units * MINUTE;
          if (bucket.level > limit * MINUTE)
            violations.push(`${entry.seq}: more of a minute than '${name}' may`);
        };
        if (callsPerMinute !== undefined && toolCalls + steps > 0) {
          drain(calls, callsPerMinute);
          fill(calls, callsPerMinute, 1);
        }
        if (modelTokensPerMinute !== undefined && modelTokens > 0) {
          const bucket = drainTokens(name);
          fill(bucket, modelTokensPerMinute, modelTokens);
          const end = (gone[name] ?? 0) + bucket.level;
          ends.set(token, { ...ends.get(token), [name]: { end, reserved: modelTokens * MINUTE } });
        }
      }
    } else if (facts.charged) {
      const { modelTokens } = facts.charged;
      if (modelTokens === 0) continue;
      for (const name of names) {
        const bucket = drainTokens(name);
        if (modelTokens > 0) {
          bucket.level += modelTokens * MINUTE;
          continue;
        }
        // What a person gives back comes when it has drained.
        const own = facts.kind === 'reviewed' ? undefined : ends.get(token)?.[name];
        const left = own ? Math.max(0, own.end - (gone[name] ?? 0)) : 0;
        const back = Math.min(left, own?.reserved ?? 0, -modelTokens * MINUTE);
        bucket.level -= back;
        gone[name] = (gone[name] ?? 0) + back;
      }
    }
  }
  return { buckets, violations };
}
