import { BYTES_GUARDS } from './guard-list-bytes';
import { BREAKER_GUARDS } from './guard-list-breakers';
import { CAPACITY_GUARDS } from './guard-list-capacity';
import { BESIDE_GUARDS } from './guard-list-beside';
import { CROWD_GUARDS } from './guard-list-crowds';
import { END_GUARDS } from './guard-list-ends';
import { GATEWAY_GUARDS } from './guard-list-gateway';
import { LANE_GUARDS } from './guard-list-lanes';
import { MODEL_GUARDS } from './guard-list-models';
import { POLICY_GUARDS } from './guard-list-policy';
import { QUOTA_GUARDS } from './guard-list-quotas';
import { SLOT_GUARDS } from './guard-list-slots';

/** A line that a promise stands on, how it is taken out, and the tests that must notice. */
export interface Guard {
  readonly name: string;
  readonly file: string;
  /** Stands exactly once in the file. */
  readonly find: string;
  readonly put: string;
  readonly tests: readonly string[];
  /** Part of the titles of the tests to run. */
  readonly titles: string;
}

export const GUARDS: readonly Guard[] = [
  {
    name: 'envelope verification',
    file: 'activities/envelope-interceptor.ts',
    find: 'return await verifier.verify(defaultPayloadConverter.fromPayload(header), workflowId);',
    put: `const signed = defaultPayloadConverter.fromPayload<never>(header);
      const { tenantId, environment } = (signed as { envelope: { tenantId: never; environment: never } }).envelope;
      return { scope: mintScope(tenantId, environment, 'envelope'), signed };`,
    tests: ['test/runs/envelope'],
    titles: 'E2 a forged',
  },
  {
    name: 'the lane check',
    file: 'activities/envelope-interceptor.ts',
    find: 'if (lane.tenantId !== undefined && scope.tenantId !== lane.tenantId) {',
    put: 'if (Date.now() < 0) {',
    tests: ['test/runs/envelope'],
    titles: 'E3',
  },
  {
    name: 'row security',
    file: 'storage/migrations/0001_foundation.sql',
    find: "execute format('alter table %s enable row level security, force row level security', p_table);",
    put: '',
    tests: ['test/storage/isolation'],
    titles: 'M1',
  },
  {
    name: 'the idempotency claim',
    file: 'storage/migrations/0005_admit.sql',
    find: 'known := found;',
    put: 'known := false;',
    tests: ['test/ledger/calls'],
    titles: 'T2',
  },
  {
    name: 'the fence check at admission',
    file: 'storage/migrations/0005_admit.sql',
    find: "if t.mode <> 'normal' and not past_fence then",
    put: 'if false then',
    tests: ['test/ledger/control'],
    titles: 'O1',
  },
  {
    name: 'the fence check before each request',
    file: 'activities/fence-watch.ts',
    find: 'if (seen > epoch)',
    put: 'if (Date.now() < 0)',
    tests: ['test/control/fence-watch'],
    titles: 'O1',
  },
  {
    name: 'the age of the fence’s confirmation',
    file: 'activities/fence-watch.ts',
    find: 'if (performance.now() - this.confirmedAt > CONFIRMED_WITHIN_MS)',
    put: 'if (Date.now() < 0)',
    tests: ['test/control/fence-watch'],
    titles: 'O1',
  },
  {
    name: 'deny on an evaluation error',
    file: 'policy/decide.ts',
    find: 'if (diagnostics.errors.length > 0) {',
    put: 'if (Date.now() < 0) {',
    tests: ['test/policy/errors'],
    titles: 'P7',
  },
  {
    name: 'the check of records before a call',
    file: 'activities/judge.ts',
    find: 'if (unknown) {',
    put: 'if (unknown && Date.now() < 0) {',
    tests: ['test/runs/gateway'],
    titles: 'T6',
  },
  {
    name: 'the check of records in a result',
    file: 'activities/perform.ts',
    find: 'if (foreign) {',
    put: 'if (foreign && Date.now() < 0) {',
    tests: ['test/runs/gateway'],
    titles: 'T6',
  },
  {
    name: 'the fence over runs accepted before it',
    file: 'storage/migrations/0005_admit.sql',
    find: 'if asked_under < t.fence_epoch and not past_fence then',
    put: 'if false then',
    tests: ['test/ledger/control'],
    titles: 'O1',
  },
  {
    name: 'the question before the first byte',
    file: 'tools/http.ts',
    find: 'atWrite.before(handler)',
    put: 'handler',
    tests: ['test/tools/http'],
    titles: 'O1',
  },
  {
    name: 'the memory of an earlier attempt',
    file: 'activities/perform.ts',
    find: 'perform(attempt, openSession, { earlier: true, attemptNo: claim.attempt });',
    put: 'perform(attempt, openSession, { earlier: false, attemptNo: claim.attempt });',
    tests: ['test/runs/gateway'],
    titles: 'T3 a take-over',
  },
  {
    name: 'the end of a call’s way out',
    file: 'activities/perform.ts',
    find: 'session.close();\n      if (isStorageBusy(error)',
    put: 'if (isStorageBusy(error)',
    tests: ['test/runs/gateway'],
    titles: 'T3 what an action leaves',
  },
  {
    name: 'an undone run takes no new write',
    file: 'storage/migrations/0005_admit.sql',
    find: 'if r.undone and not undoes then',
    put: 'if false then',
    tests: ['test/ledger/undone'],
    titles: 'T5',
  },
  {
    name: 'absent proves nothing before visibleWithin',
    file: 'activities/perform.ts',
    find: 'if (early > 0) throw',
    put: 'if (early > Number.MAX_SAFE_INTEGER) throw',
    tests: ['test/runs/recovery'],
    titles: 'T3 absent before visibleWithin',
  },
  {
    name: 'a read-back is asked again before a person is',
    file: 'activities/perform.ts',
    find: "if (seen === 'later' && attemptNo < LOOK_UPS",
    put: "if (seen === 'later' && attemptNo < 0",
    tests: ['test/runs/read-back'],
    titles: 'T4',
  },
  {
    name: 'the role of an operator',
    file: 'client/caller.ts',
    find: 'if (!who.roles.includes(OPERATOR_ROLE)) {',
    put: 'if (Date.now() < 0) {',
    tests: ['test/client/after'],
    titles: 'E1 who may start',
  },
  ...GATEWAY_GUARDS,
  ...POLICY_GUARDS,
  ...QUOTA_GUARDS,
  ...BYTES_GUARDS,
  ...CAPACITY_GUARDS,
  ...BREAKER_GUARDS,
  ...SLOT_GUARDS,
  ...LANE_GUARDS,
  ...MODEL_GUARDS,
  ...CROWD_GUARDS,
  ...BESIDE_GUARDS,
  ...END_GUARDS,
];
