import type { Guard } from './guard-list';

const METERS = 'storage/migrations/0003_meters.sql';
const ADMIT = 'storage/migrations/0005_admit.sql';
const SETTLE = 'storage/migrations/0006_settle.sql';
const charges = ['test/ledger/quota-charges'];
const frees = ['test/ledger/quota-frees'];
const midnight = ['test/ledger/quota-midnight'];

/** What quotas are exact by (promises Q1, Q2 and Q6). */
export const QUOTA_GUARDS: readonly Guard[] = [
  {
    name: 'calls in flight, counted at the cap',
    file: METERS,
    find: 'if p_takes_slot and (m).inflight >= (l)',
    put: 'if p_takes_slot and (m).inflight > (l)',
    tests: charges,
    titles: 'Q1 a reworded read|Q2 Q4 a refusal moves',
  },
  {
    name: 'what a day has used, at its cap',
    file: METERS,
    find: 'when p_ask.micro_usd > 0 and used.micro_usd + p_ask.micro_usd > cap.micro_usd then',
    put: 'when p_ask.micro_usd > 0 and p_ask.micro_usd > cap.micro_usd then',
    tests: frees,
    titles: 'Q1 Q3 spend_micro_usd_per_day',
  },
  {
    name: 'a new day that frees',
    file: METERS,
    find: 'case when p_today > (m).day then bulkhead.nothing() else',
    put: 'case when false then bulkhead.nothing() else',
    tests: midnight,
    titles: 'over midnight',
  },
  {
    name: 'the budget of a run',
    file: METERS,
    find: 'r.steps + p_ask.steps > p_cap.steps',
    put: 'p_ask.steps > p_cap.steps',
    tests: frees,
    titles: 'Q1 Q3 per_run_steps',
  },
  {
    name: 'the slot given back on each meter that it was taken from',
    file: METERS,
    find: '  if cardinality(c.metered) > 0 then\n    update bulkhead.meters',
    put: '  if false then\n    update bulkhead.meters',
    tests: charges,
    titles: 'Q2 each way a call ends|Q2 a read that takes',
  },
  {
    name: 'the meters read again once a lost slot is given back',
    file: ADMIT,
    find: '    if cardinality(named) > 0 then\n',
    put: '    if false then\n',
    tests: charges,
    titles: 'Q2 a read that takes',
  },
  {
    name: 'a slot on a meter that the replaced call was not on',
    file: ADMIT,
    find: 'meter_gate(one.meter, one.layers, ask, takes_slot or one.name <> all (c.metered),',
    put: 'meter_gate(one.meter, one.layers, ask, takes_slot,',
    tests: charges,
    titles: 'Q1 a reworded read|Q6 a limit that is named',
  },
  {
    name: 'one day for all meters of a tenant',
    file: METERS,
    find: 'bulkhead.meter_roll(t, k.name, k.meter, (t.meter).day), k.layers',
    put: 'bulkhead.meter_roll(t, k.name, k.meter, bulkhead.day_of(p_now, l.time_zone)), k.layers',
    tests: midnight,
    titles: 'Q2 Q6 east and west',
  },
  {
    name: 'the true-up of a day that is over',
    file: METERS,
    find: '    update bulkhead.closed_days set used = bulkhead.plus(used, p_delta)',
    put: '    update bulkhead.closed_days set used = used',
    tests: midnight,
    titles: 'Q2 a call that is settled after two days',
  },
  {
    name: 'an attempt trued up once',
    file: SETTLE,
    find: 'if g.token is not null and not g.trued_up and p_result',
    put: 'if g.token is not null and p_result',
    tests: charges,
    titles: 'Q2 a lost attempt costs',
  },
  {
    name: 'no cost below nothing',
    file: SETTLE,
    find: 'if not counted(amounts_of(p_tool_calls, 0, 0, p_micro_usd, p_model_tokens, 0)) then',
    put: 'if false then',
    tests: charges,
    titles: 'Q2 negative and absent',
  },
];
