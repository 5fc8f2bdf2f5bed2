import {
  closeSync,
  existsSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { z } from 'zod';

/** Anything that a system keeps. Ids are unique within a collection, over all accounts. */
const Stored = z.looseObject({ id: z.string().min(1), account: z.string().min(1) });
export type Stored = z.infer<typeof Stored>;

export const Put = z.strictObject({ collection: z.string(), record: Stored });
export type Put = z.infer<typeof Put>;

/**
 * One change made through a system's API: a line of `effects.jsonl`, the witness of what really happened. It names
 * the token and never holds it. `puts` are the records as they stand after it, so that the state is the log.
 */
export const EffectRow = z.strictObject({
  seq: z.int().positive(),
  /** ISO, milliseconds, of the system's own clock, taken when it was applied. */
  at: z.iso.datetime(),
  /** Owner of the record, which is not the caller's account where a token reaches too far. */
  account: z.string(),
  caller: z.string(),
  system: z.string(),
  operation: z.string(),
  recordId: z.string(),
  /** The ticket that the caller says it is for. */
  reference: z.string().nullable(),
  idempotencyKey: z.string().nullable(),
  /** sha256 of the route, its parameters and the canonical body. */
  digest: z.string(),
  token: z.string(),
  body: z.unknown(),
  puts: z.array(Put),
  answer: z.strictObject({ status: z.int(), body: z.unknown() }),
});
export type EffectRow = z.infer<typeof EffectRow>;

/** Records and effects of one system, kept as two append-only logs. */
export interface Store {
  get(collection: string, id: string): Stored | undefined;
  list(collection: string): Stored[];
  /** The latest effect under a key of a caller, whatever its age. */
  byKey(caller: string, key: string): EffectRow | undefined;
  /** Durable when it returns: written, flushed, then applied. */
  commit(row: Omit<EffectRow, 'seq' | 'at' | 'system'>): EffectRow;
  /** What customers bring (tickets, accounts, payments). Known ids stay as they are; answers how many were new. */
  intake(puts: readonly Put[]): number;
  readonly effects: number;
  close(): void;
}

/** Opens the logs of a system and rebuilds its state. A line cut short by a crash was never answered, and is dropped. */
export function openStore(stateDir: string, system: string): Store {
  mkdirSync(stateDir, { recursive: true });
  const records = openLog(path.join(stateDir, 'records.jsonl'), Put);
  const effects = openLog(path.join(stateDir, 'effects.jsonl'), EffectRow);
  const state = new Map<string, Stored>();
  const keys = new Map<string, EffectRow>();
  const at = (collection: string, id: string): string => JSON.stringify([collection, id]);
  const put = ({ collection, record }: Put): void => void state.set(at(collection, record.id), record);
  const apply = (row: EffectRow): void => {
    row.puts.forEach(put);
    if (row.idempotencyKey !== null) keys.set(at(row.caller, row.idempotencyKey), row);
  };
  records.rows.forEach(put);
  effects.rows.forEach(apply);
  let count = effects.rows.length;

  return {
    get: (collection, id) => state.get(at(collection, id)),
    list: (collection) => {
      const prefix = `${JSON.stringify([collection]).slice(0, -1)},`;
      return [...state].flatMap(([key, record]) => (key.startsWith(prefix) ? [record] : []));
    },
    byKey: (caller, key) => keys.get(at(caller, key)),
    commit: (draft) => {
      const row: EffectRow = { seq: count + 1, at: new Date().toISOString(), system, ...draft };
      effects.append([row]);
      count += 1;
      apply(row);
      return row;
    },
    intake: (puts) => {
      const fresh = puts.filter(({ collection, record }) => !state.has(at(collection, record.id)));
      records.append(fresh);
      fresh.forEach(put);
      return fresh.length;
    },
    get effects() {
      return count;
    },
    close: () => {
      records.close();
      effects.close();
    },
  };
}

interface Log<Row> {
  readonly rows: readonly Row[];
  append(rows: readonly Row[]): void;
  close(): void;
}

function openLog<Row>(file: string, form: z.ZodType<Row>): Log<Row> {
  const text = existsSync(file) ? readFileSync(file) : Buffer.alloc(0);
  const whole = text.lastIndexOf(0x0a) + 1;
  const handle = openSync(file, 'a');
  if (whole < text.length) ftruncateSync(handle, whole);
  const lines = text.subarray(0, whole).toString('utf8').split('\n').filter(Boolean);
  return {
    rows: lines.map((line) => form.parse(JSON.parse(line))),
    append: (rows) => {
      if (rows.length === 0) return;
      const bytes = Buffer.from(rows.map((row) => `${JSON.stringify(row)}\n`).join(''), 'utf8');
      for (let written = 0; written < bytes.length;) written += writeSync(handle, bytes, written);
      fsyncSync(handle);
    },
    close: () => closeSync(handle),
  };
}
