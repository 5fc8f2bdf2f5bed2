import type { LedgerTenant } from './harness';
import type { DoubtModel } from './model-doubt';
import { NOTHING, recount } from './recount';

/** What the superuser sees in the tables against the model: the tenant row, days and runs. */
export async function checkCounters(model: DoubtModel, tenant: LedgerTenant): Promise<void> {
  const row = await tenant.row();
  expect({ ...row, claimed: await tenant.claimed() }).toMatchObject({
    mode: model.mode,
    fence_epoch: model.epoch,
    control_version: model.controlVersion,
    policy_version: model.policyVersion,
    inflight: model.inflight,
    claimed: model.inflight,
    rewound_seq: model.rewound,
  });
  const counted = await tenant.world.admin.query<{
    days: Record<string, number> | null;
    runs: object | null;
  }>(
    `select (select json_object_agg(window_no, used) from (
           select day as window_no, (used).tool_calls as used from bulkhead.closed_days where tenant_id = $1 and (used).tool_calls <> 0
           union all select (meter).day, ((meter).used).tool_calls from bulkhead.ledgers
             where tenant_id = $1 and ((meter).used).tool_calls <> 0) w) as days,
         (select json_object_agg(run_id, json_build_object('closed', state = 'closed', 'undone', undone, 'steps', steps, 'toolCalls', tool_calls,
           'microUsd', spent_micro_usd, 'refusals', refusals)) from bulkhead.runs where tenant_id = $1) as runs`,
    [tenant.tenantId],
  );
  expect(counted.rows[0]?.days ?? {}).toEqual(daysOf(model));
  const runs = [...model.runs].map(([run, { workflow: _w, acceptedAt: _a, ...counters }]) => [run, counters]);
  expect(counted.rows[0]?.runs ?? {}).toEqual(Object.fromEntries(runs));
  const bytes = await tenant.bytes();
  expect(bytes.counted).toEqual(bytes.found);
}

/** The same of calls, reviews, dead letters and follow-ups. */
export async function checkDoubts(model: DoubtModel, tenant: LedgerTenant): Promise<void> {
  const found = await tenant.world.admin.query<
    Record<'calls' | 'reviews' | 'letters' | 'follow_ups', unknown>
  >(
    `select (select json_object_agg(run_id || '|' || path, json_build_array(state, review_no is not null))
           from bulkhead.calls where tenant_id = $1) as calls,
         (select json_agg(json_build_array(run_id, path, kind, resolution) order by review_no)
           from bulkhead.reviews where tenant_id = $1) as reviews,
         (select json_agg(json_build_array(run_id, path, state) order by letter_no)
           from bulkhead.dead_letters where tenant_id = $1) as letters,
         (select json_agg(json_build_array(run_id, kind, path, state, epoch) order by follow_up_no)
           from bulkhead.follow_ups where tenant_id = $1) as follow_ups`,
    [tenant.tenantId],
  );
  const { calls, reviews, letters, follow_ups: followUps } = found.rows[0] ?? {};
  expect(calls ?? {}).toEqual(
    Object.fromEntries([...model.calls].map(([key, { state, review }]) => [key, [state, review !== null]])),
  );
  expect(reviews ?? []).toEqual(
    model.reviews.map(({ run, path, kind, resolution }) => [run, path, kind, resolution]),
  );
  expect(letters ?? []).toEqual(model.letters.map(({ run, path, state }) => [run, path, state]));
  expect(followUps ?? []).toEqual(
    model.followUps.map(({ run, kind, path, state, epoch }) => [run, kind, path, state, epoch]),
  );
}

/** The journal alone gives every counter again, and is whole. */
export async function checkJournal(model: DoubtModel, tenant: LedgerTenant): Promise<void> {
  const counted = recount(await tenant.journal());
  expect(counted.violations).toEqual([]);
  expect(counted).toMatchObject({
    inflight: 0,
    mode: model.mode,
    epoch: model.epoch,
    policyVersion: model.policyVersion,
    refusals: Object.fromEntries(model.refusals),
    stored: { bytes: (await tenant.bytes()).found.stored, reserved: 0 },
  });
  const days = Object.entries(counted.days).map(([day, { toolCalls }]) => [day, toolCalls] as const);
  expect(Object.fromEntries(days.filter(([, used]) => used !== 0))).toEqual(daysOf(model));
  for (const [run, { steps, toolCalls, microUsd }] of model.runs) {
    expect(counted.runs[run] ?? NOTHING).toMatchObject({
      steps,
      toolCalls,
      microUsd,
    });
  }
  // Numbers that a lost ledger had given are jumped over, and said to be.
  expect(await tenant.verify()).toMatchObject({ intact: true });
}

const daysOf = (model: DoubtModel): Record<string, number> =>
  Object.fromEntries(
    [...model.days].filter(([, used]) => used !== 0).map(([day, used]) => [String(day), used]),
  );
