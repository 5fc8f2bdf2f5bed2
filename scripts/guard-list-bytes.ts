import type { Guard } from './guard-list';

const METERS = 'storage/migrations/0003_meters.sql';
const ADMIT = 'storage/migrations/0005_admit.sql';
const MEMORY = 'storage/migrations/0013_knowledge.sql';
const tests = ['test/ledger/stored-bytes'];

/** What limits of storage and memory are exact by (promises Q1 and Q2). */
export const BYTES_GUARDS: readonly Guard[] = [
  {
    name: 'bytes stored and reserved, counted at the limit',
    file: METERS,
    find: 'where p_ask > 0 and k.used + p_ask > l.storage_bytes',
    put: 'where p_ask > l.storage_bytes',
    tests,
    titles: 'Q1 Q3 Q4 a call reserves',
  },
  {
    name: 'bytes reserved, given back with the slot',
    file: METERS,
    find: '  t.stored_reserved := t.stored_reserved - c.stored_reserved;\n',
    put: '',
    tests,
    titles: 'Q2 succeeded|Q2 a call that is reaped',
  },
  {
    name: 'bytes of what is replaced',
    file: METERS,
    find: 'bulkhead.bytes_of(p_payload) - replaced;',
    put: 'bulkhead.bytes_of(p_payload);',
    tests,
    titles: 'Q2 the words of a refusal',
  },
  {
    name: 'bytes held by the attempt that is replaced',
    file: ADMIT,
    find: 'case when supersedes then c.stored_reserved else 0 end',
    put: '0',
    tests,
    titles: 'Q2 a read that is lost',
  },
  {
    name: 'bytes that an undo may not reserve',
    file: ADMIT,
    find: ' or p_stored_bytes <> 0\n',
    put: '\n',
    tests,
    titles: 'Q2 T5 an undo',
  },
  {
    name: 'bytes that a run begins with',
    file: 'storage/migrations/0016_queue.sql',
    find: "return bulkhead.storage_gate(t, l, p_bytes, 0, 'this run');",
    put: 'return null;',
    tests,
    titles: 'Q1 Q3 a run whose input',
  },
  {
    name: 'bytes of memory, counted at the limit',
    file: MEMORY,
    find: 'if added > 0 and t.memory_bytes + added > cap then',
    put: 'if more > cap then',
    tests: ['test/ledger/memory'],
    titles: 'Q1 Q3 memory is counted',
  },
  {
    name: 'bytes of memory, counted under the lock',
    file: MEMORY,
    find: `  added bigint;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;`,
    put: `  added bigint;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into t from ledgers where tenant_id = p_tenant and environment = p_environment;`,
    tests: ['test/ledger/memory'],
    titles: 'Q2 writers who race',
  },
  {
    name: 'the bytes that a result may have',
    file: 'activities/acting.ts',
    find: '  if (bytes > most) throw',
    put: '  if (most < 0) throw',
    tests: ['test/runs/result-size'],
    titles: 'Q2 a result of as many bytes',
  },
  {
    name: 'bytes beyond what a written action may answer, not looked up',
    file: 'activities/acting.ts',
    find: ' || error instanceof ResultTooLarge));',
    put: '));',
    tests: ['test/runs/result-size'],
    titles: 'Q2 T3 one that is too large',
  },
  {
    name: 'the bytes that a model may answer',
    file: 'activities/model.ts',
    find: '      requireStorable(MODEL_ACTION, payload, storedBytes);\n',
    put: '',
    tests: ['test/runs/bytes-surface'],
    titles: 'Q2 an answer of a model',
  },
];
