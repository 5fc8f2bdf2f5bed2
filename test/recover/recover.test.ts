import { setTimeout as delay } from 'node:timers/promises';
import type { Run } from '../../client/run';
import { bytesOf } from '../ledger/bytes';
import { recount } from '../ledger/recount';
import { verifyJournal } from '../../storage/journal-verify';
import { until } from '../support/until';
import { backUp, type Backup } from './backup';
import {
  allAtGate,
  allUnderWay,
  allWritten,
  createRecoverWorld,
  record,
  TENANT,
  type RecoverWorld,
} from './world';

jest.setTimeout(240_000);

let world: RecoverWorld;
let backup: Backup | undefined;
beforeEach(async () => {
  world = await createRecoverWorld();
});
afterEach(async () => {
  await world.close();
  await backup?.drop();
  backup = undefined;
});

const read = ['record.read', { recordId: 'r1' }] as const;
const writes = { blind: 'blind.write', keyed: 'note.write', looked: 'looked.write' } as const;
const write = (name: string, action: string = 'blind.write') =>
  [action, action === 'note.write' ? { ...record(name), text: 'x' } : record(name)] as const;

/**
 * A copy is made while these runs read, and everything stops while they write: what their writes were asked for by, a model
 * step, the backup has.
 */
async function crashWhileWriting(
  names: readonly (keyof typeof writes)[],
  more: { beforeCopy?: () => Promise<void>; afterCopy?: () => Promise<void> } = {},
): Promise<Map<string, Run>> {
  const runs = new Map<string, Run>();
  await world.startHosts();
  await more.beforeCopy?.();
  const reads = () => world.held.outside.requests.filter(({ path }) => path === '/records/r1').length;
  const readsBefore = reads();
  world.held.hold('r1');
  for (const name of names) world.scripts.set(name, [[read, write(name, writes[name])]]);
  for (const name of names) runs.set(name, await world.start(name));
  await until('reads under way', () => Promise.resolve(reads() >= readsBefore + names.length), 60_000);
  backup = await backUp(world.stack.database);
  for (const name of names) world.held.hold(`k-${name}`);
  world.held.letGo('r1');
  await more.afterCopy?.();
  await allWritten(world, names);
  await allUnderWay(world, [...runs.values()]);
  await world.killHosts();
  await backup.restore();
  for (const name of names) world.held.letGo(`k-${name}`);
  return runs;
}

test('O8 a database restored from a backup, with runs open: nothing is written twice, and recover brings the runs to their end', async () => {
  const others = new Map<string, Run>();
  for (const name of ['between', 'ended']) {
    world.scripts.set(name, [[write(name)], [write(name)]]);
    world.gate(name, 1);
  }
  world.scripts.set('lost', [[read], [write('lost')]]);
  world.gate('lost', 1);
  world.scripts.set('fresh', [[write('fresh')]]);
  const runs = await crashWhileWriting(['blind', 'keyed', 'looked'], {
    async beforeCopy() {
      for (const name of ['between', 'ended', 'lost']) others.set(name, await world.start(name));
      await allAtGate(world, ['between', 'ended', 'lost']);
    },
    async afterCopy() {
      world.gate('fresh', 1);
      others.set('fresh', await world.start('fresh'));
      for (const name of ['between', 'ended']) world.open(name);
      world.gate('between', 2);
      await others.get('ended')?.result({ timeoutMs: 60_000 });
      await allAtGate(world, ['fresh', 'between']);
      world.held.hold('k-lost');
      world.open('lost');
      await allWritten(world, ['lost']);
      await allUnderWay(world, [others.get('lost') as Run]);
    },
  });
  world.held.letGo('k-lost');
  for (const name of ['fresh', 'between']) world.open(name);
  const effects = () => world.held.outside.effects.length;
  const written = effects();
  expect(written).toBe(3 + 1 + 2 + 2 + 1);

  // Started again on the old ledger: it takes nothing in, and the runs wait.
  const admittedBefore = await admitted();
  await world.startHosts();
  const open = [...runs, ...[...others].filter(([name]) => name !== 'ended')];
  await allFrozen(open);
  await delay(2_000);
  expect([await admitted(), effects()]).toEqual([admittedBefore, written]);
  await expect(world.start('more')).rejects.toMatchObject({ code: 'refused' });

  // A dry run says what would be done, and changes nothing.
  const snapshot = await ledgerText();
  const dry = await world.cli(['recover', '--tenant', TENANT, '--dry-run', '-o', 'json']);
  expect([dry.code, dry.said]).toEqual([0, expect.any(String)]);
  expect(await ledgerText()).toBe(snapshot);
  const plan = JSON.parse(dry.out) as { rows: { done: string }[]; counts: object; released: boolean };
  expect(plan.released).toBe(false);

  const done = await world.cli(['recover', '--tenant', TENANT]);
  expect(done).toMatchObject({ code: 0, said: expect.stringContaining('the tenant works again') });
  for (const { done: what } of plan.rows) expect(done.out).toContain(what);

  // What nobody can know waits for a person, who has looked at the system outside.
  const store = world.stack.store(TENANT);
  const reviewed = new Set<string>();
  const ended = await until(
    'all runs closed',
    async () => {
      for (const { reviewNo, path, runId, action } of await store.reviews({ open: true, limit: 50 })) {
        reviewed.add(`${nameOf(runId)} ${path}`);
        await store.resolveReview({
          reviewNo,
          resolution: 'happened',
          payload: { kind: 'tool', outcome: 'done', action, result: { id: 'x', account: 'acct', effect: 1 } },
          payloadDigest: 'a'.repeat(64) as never,
          shown: null,
          actor: 'tester',
          note: 'seen at the keeper',
        });
        await world.stack.temporal.workflow
          .getHandle(`tenant/${TENANT}/${world.stack.environment}/run/${runId}`)
          .signal('reviewDecided');
      }
      const rows = await store.runs({ limit: 50 });
      return rows.length === 7 && rows.every(({ state }) => state === 'closed') && rows;
    },
    120_000,
  );
  function nameOf(runId: string): string | undefined {
    return [...runs, ...others].find(([, run]) => run.runId === runId)?.[0];
  }
  expect(Object.fromEntries(ended.map(({ runId, stopReason }) => [nameOf(runId), stopReason]))).toEqual({
    blind: 'completed',
    keyed: 'completed',
    looked: 'completed',
    lost: 'completed',
    between: 'completed',
    fresh: 'completed',
    ended: 'completed',
  });
  expect([...reviewed].sort()).toEqual(['blind 0.2', 'lost 1.1']);
  expect(effects()).toBe(written);
  // Looked up, and not sent again; sent again under its key.
  expect([world.held.posts('k-looked'), world.held.posts('k-blind'), world.held.posts('k-keyed')]).toEqual([
    1, 1, 2,
  ]);

  // The books: one chain that names what was lost, and counters that the journal gives exactly.
  const journal = await allEntries();
  const [row] = await world.ledger<{
    seq: string;
    hash: string;
    inflight: number;
    day: number;
    used: string;
  }>(
    `select journal_seq as seq, encode(journal_head, 'hex') as hash, (meter).inflight as inflight, (meter).day as day,
       ((meter).used).tool_calls as used from bulkhead.ledgers`,
  );
  const { environment } = world.stack;
  expect(
    verifyJournal(journal, { tenantId: TENANT, environment, seq: Number(row?.seq), hash: row?.hash ?? '' }),
  ).toMatchObject({ intact: true, lost: [expect.anything()] });
  const counted = recount(journal);
  expect(counted.violations).toEqual([]);
  expect([counted.inflight, counted.days[row?.day ?? 0]?.toolCalls]).toEqual([
    row?.inflight,
    Number(row?.used),
  ]);
  const bytes = await bytesOf((sql) => world.ledger(sql), TENANT);
  expect(bytes.counted).toEqual(bytes.found);
  expect(counted.stored).toEqual({ bytes: bytes.found.stored, reserved: bytes.found.reserved });
  const spent = await world.ledger<{ run_id: string; steps: number; tool_calls: number }>(
    `select run_id, steps, tool_calls from bulkhead.runs`,
  );
  for (const { run_id: runId, steps, tool_calls: toolCalls } of spent)
    expect(counted.runs[runId]).toMatchObject({ steps, toolCalls });

  // The models were told honestly.
  const told = world.model.requests.map(({ messages }) => JSON.stringify(messages)).join('\n');
  expect(told).toContain('Its result was lost when the platform');
});

test('O8 without recovery the same restore does write twice: the mark wiped by hand, as a control', async () => {
  await crashWhileWriting(['blind']);
  await world.ledger(`update bulkhead.ledgers set acknowledged_seq = 1000000, rewound_seq = 0`);
  await world.startHosts();
  await until('a second blind write', () => Promise.resolve(world.held.effectsOn('k-blind') > 1), 120_000);
});

/** Waits until they all show that they wait for the ledger. */
async function allFrozen(runs: readonly (readonly [string, Run])[]): Promise<void> {
  const states = () => Promise.all(runs.map(async ([name, run]) => `${name} ${await world.stateOf(run)}`));
  await until(
    'frozen',
    async () => (await states()).every((state) => state.endsWith(' frozen')),
    60_000,
  ).catch(async () => expect(await states()).toEqual(runs.map(([name]) => `${name} frozen`)));
}

async function admitted(): Promise<number> {
  const [row] = await world.ledger<{ n: string }>(
    `select count(*) as n from bulkhead.journal where facts like '%"kind" : "admitted"%'`,
  );
  return Number(row?.n);
}

/** All that recovery may change, as text. */
async function ledgerText(): Promise<string> {
  const rows = await world.ledger<{ text: string }>(
    `select (select json_agg(c order by c.run_id, c.path) from bulkhead.calls c)::text
       || (select json_agg(json_build_array(r.run_id, r.temporal_run_id, r.stop_reason) order by r.run_id) from bulkhead.runs r)::text
       || (select json_agg(json_build_array(k.run_id, k.ref) order by k.run_id, k.ref) from bulkhead.payloads k)::text
       || (select count(*) from bulkhead.journal where facts like '%"restored"%' or facts like '%"renumbered"%')
       || (select rewound_seq > 0 from bulkhead.ledgers) as text`,
  );
  return rows[0]?.text ?? '';
}

async function allEntries() {
  const store = world.stack.store(TENANT);
  const entries = [];
  for (let afterSeq = 0; ;) {
    const page = await store.journal({ afterSeq, limit: 500 });
    entries.push(...page);
    const last = page.at(-1);
    if (!last || page.length < 500) return entries;
    afterSeq = last.seq;
  }
}
