import { inspect } from 'node:util';
import { textOfHistory } from '../support/history';
import { atLastAttempt } from '../support/last-attempt';
import { plays, startModel, type Move, type TestModel } from '../support/model';
import { startOutside, type Outside } from '../support/outside';
import { createTestStack, type TestStack } from '../support/stack';
import { policyYaml, readyTenant } from '../support/tenants';
import { until } from '../support/until';
import type { RunResult } from '../../client/run';

let stack: TestStack;
let outside: Outside;
let model: TestModel;

beforeAll(async () => {
  [stack, outside, model] = await Promise.all([createTestStack(), startOutside('acct'), startModel(plays())]);
  await readyTenant(stack, { name: 'acme', keeper: outside.url, models: model.url });
});

beforeEach(() => {
  outside.faults = {};
  model.failWith = undefined;
});

afterAll(async () => {
  await stack.close();
  await Promise.all([outside.close(), model.close()]);
});

/** Runs one agent through the moves; answers how it ended, what it changed outside and what was refused to it. */
async function play(tenant: string, moves: Move[], input: unknown = 'go') {
  const before = outside.effects.length;
  model.script = plays(...moves);
  const run = await stack.run(tenant, input);
  const result: RunResult = await run.result({ timeoutMs: 45_000 });
  const refusals = (await stack.refusals(tenant, run.runId)).map(({ refusal }) => refusal);
  return { run, result, refusals, effects: outside.effects.slice(before) };
}

const call = (...calls: [string, unknown][]): Move => ({ call: calls });

test('T1 unknown action, extra field, wrong type: a clear error to the model, nothing done, and the run goes on', async () => {
  const { result, refusals, effects } = await play('acme', [
    call(['vault.open', {}]),
    call(
      ['note.write', { recordId: 'r1', text: 'x', tenantId: 'globex' }],
      ['payment.send', { recordId: 'r1', amountCents: 'ten' }],
    ),
    call(['note.write', '{"recordId":"r1",']),
    call(['note.write', { recordId: 'r1', text: 'honest' }]),
  ]);
  expect(result).toMatchObject({ stopReason: 'model_misbehaved' });
  expect(refusals.map(({ rule }) => rule)).toEqual(['unknown_action', 'schema', 'schema', 'schema']);
  expect(effects).toEqual([]);
  const seen = JSON.stringify(model.requests.at(-1)?.messages);
  expect(seen).toContain('Unrecognized key');
});

test('T1 one honest call among refused ones is done, and the run completes', async () => {
  const { result, refusals, effects } = await play('acme', [
    call(['vault.open', {}]),
    call(
      ['note.write', { recordId: 'r1', text: 'x', extra: true }],
      ['note.write', { recordId: 'r1', text: 'honest' }],
    ),
  ]);
  expect(result).toMatchObject({ stopReason: 'completed', usage: { refusals: 2, toolCalls: 1 } });
  expect(refusals.map(({ kind, origin }) => `${kind} ${origin}`)).toEqual(['denied policy', 'denied policy']);
  expect(effects.map(({ body }) => body)).toEqual([{ recordId: 'r1', text: 'honest' }]);
});

test('E1 a typed scope field that contradicts the envelope fails the call; one that agrees does not', async () => {
  const { refusals, effects } = await play('acme', [
    call(['payment.send', { recordId: 'r1', amountCents: 100, tenantId: 'globex' }]),
    call(['payment.send', { recordId: 'r1', amountCents: 200, tenantId: 'acme' }]),
  ]);
  expect(refusals).toMatchObject([{ kind: 'denied', rule: 'scope.tenantId' }]);
  expect(effects.map(({ body }) => (body as { amountCents: number }).amountCents)).toEqual([200]);
});

test('T6 a record not known to be the tenant’s is refused before the call, and is known once a result has named it', async () => {
  const requests = outside.requests.length;
  const { result, refusals } = await play('acme', [
    call(['record.read', { recordId: 'globex-7' }], ['note.write', { recordId: 'globex-7', text: 'x' }]),
    call(['record.read', { recordId: 'r1' }]),
  ]);
  expect(refusals.map(({ rule }) => rule)).toEqual(['scope.record_unknown', 'scope.record_unknown']);
  expect(outside.requests.slice(requests).map(({ path }) => path)).toEqual(['/records/r1']);
  expect(result.stopReason).toBe('completed');
});

test('T6 a result of another account is discarded and ends the run as scope_ambiguous', async () => {
  outside.faults = { account: 'acct_of_globex' };
  const { run, result } = await play('acme', [call(['record.read', { recordId: 'r1' }])]);
  expect(result).toMatchObject({ stopReason: 'scope_ambiguous' });
  const kept = await stack.store('acme').payload(run.runId as never, '0.1');
  expect(kept).toMatchObject({ kind: 'tool', outcome: 'scope_ambiguous' });
  expect(JSON.stringify(kept)).not.toContain('about r1');
});

test('P1 P9 default deny: what no rule allows is refused, with rule and policy version in the journal', async () => {
  await readyTenant(stack, {
    name: 'narrow',
    keeper: outside.url,
    models: model.url,
    rules: '  - { id: reading, effect: allow, actions: [record.read] }',
  });
  const { run, result, refusals, effects } = await play('narrow', [
    call(['note.write', { recordId: 'r1', text: 'x' }], ['record.read', { recordId: 'r1' }]),
  ]);
  expect(result.stopReason).toBe('completed');
  expect(effects).toEqual([]);
  expect(refusals).toMatchObject([
    { kind: 'denied', origin: 'policy', rule: 'default-deny', policyVersion: expect.any(Number) },
  ]);
  const allowed = (await stack.journal('narrow'))
    .map(({ facts }) => JSON.parse(facts) as Record<string, unknown>)
    .find(({ action }) => action === 'record.read');
  expect(allowed).toMatchObject({ rules: ['reading', 'secrets[0]'], policyVersion: expect.any(Number) });
  expect(run.runId).toBeTruthy();
});

test('P7 a forbid that cannot be evaluated forbids, and allows once its fact is there', async () => {
  const rules = `  - { id: all, effect: allow, actions: [note.write, text.judge] }
  - { id: judged-first, effect: forbid, actions: [note.write], unless: context.facts has verdict && context.facts.verdict == "passed" }`;
  await readyTenant(stack, { name: 'judged', keeper: outside.url, models: model.url, rules });
  const write = (text: string) => call(['note.write', { recordId: 'r1', text }]);
  const { refusals, effects } = await play('judged', [
    write('too early'),
    call(['text.judge', { text: 'fine' }]),
    write('now'),
  ]);
  expect(refusals).toMatchObject([{ rule: 'judged-first' }]);
  expect(effects.map(({ body }) => (body as { text: string }).text)).toEqual(['now']);
});

test('P2 T7 a destination that no rule names, its scheme and port included, and an address that is private, are not connected to', async () => {
  const { port } = new URL(outside.url);
  const named = [
    '*.example',
    `http://127.0.0.1:${port}`,
    `http://*.localhost:${port}`,
    'http://169.254.169.254',
  ];
  const rules = `  - { id: web, effect: allow, actions: [web.fetch], destinations: ${JSON.stringify(named)} }`;
  await readyTenant(stack, { name: 'surfer', keeper: outside.url, models: model.url, rules });
  const requests = outside.requests.length;
  const { refusals } = await play('surfer', [
    call(
      ['web.fetch', { url: 'https://elsewhere.test/' }],
      ['web.fetch', { url: `http://127.0.0.1:${Number(port) - 1}/` }],
      ['web.fetch', { url: `https://127.0.0.1:${port}/` }],
      ['web.fetch', { url: 'http://ok.example/' }],
      ['web.fetch', { url: `http://127.0.0.1:${port}/` }],
      ['web.fetch', { url: `http://x.localhost:${port}/` }],
      ['web.fetch', { url: 'http://169.254.169.254/latest' }],
      ['web.fetch', { url: 'file:///etc/passwd' }],
      ['web.fetch', { url: `http://0x7f.1:${port}/` }],
    ),
  ]);
  expect(outside.requests.length).toBe(requests);
  expect(refusals.map(({ rule }) => rule)).toEqual([
    'default-deny',
    'default-deny',
    'default-deny',
    'default-deny',
    'egress',
    'egress',
    'egress',
    'destination',
    'destination',
  ]);
});

test('P10 a policy published while a run works holds for its next call', async () => {
  await readyTenant(stack, { name: 'moving', keeper: outside.url, models: model.url });
  const before = outside.effects.length;
  model.script = async ({ moves }) => {
    if (moves === 1)
      await stack.apply(policyYaml('moving', '  - { id: reading, effect: allow, actions: [record.read] }'));
    return moves < 2 ? call(['note.write', { recordId: 'r1', text: `${moves}` }]) : { say: 'done' };
  };
  const run = await stack.run('moving', 'go');
  await run.result({ timeoutMs: 30_000 });
  expect(outside.effects.slice(before).map(({ body }) => (body as { text: string }).text)).toEqual(['0']);
});

test('T2 an answer lost after the effect: the same key again, one effect, the run completes', async () => {
  outside.faults = { dropAfterApply: 2 };
  const { result, effects } = await play('acme', [call(['note.write', { recordId: 'r1', text: 'once' }])]);
  expect(result).toMatchObject({ stopReason: 'completed', usage: { toolCalls: 1 } });
  expect(effects).toHaveLength(1);
  expect(outside.requests.slice(-3).every(({ path }) => path === '/notes')).toBe(true);
});

test('T3 an answer lost where the system honours no keys: never a second send, and the run says that it is not known', async () => {
  outside.faults = { dropAfterApply: 1 };
  const { result, effects } = await play('acme', [call(['blind.write', { recordId: 'r1' }])]);
  expect(result).toMatchObject({ stopReason: 'outcome_unknown' });
  expect(effects).toHaveLength(1);
});

test('Q4 a system that is down is the provider’s trouble: retried, then told to the model, and the run goes on', async () => {
  outside.faults = { status: 503 };
  const { result, refusals, effects } = await play('acme', [call(['record.read', { recordId: 'r1' }])]);
  expect(result.stopReason).toBe('completed');
  expect(effects).toEqual([]);
  expect(refusals.at(-1)).toMatchObject({ rule: 'attempts_exhausted' });
});

test('Q5 a model that stays down ends the run as provider_degraded', async () => {
  model.failWith = 500;
  const playing = play('acme', []);
  await until('a first attempt', () => atLastAttempt(stack.database, 'acme'));
  const { result } = await playing;
  expect(result.stopReason).toBe('provider_degraded');
});

test('S2 no secret and no payload is in the history, the journal, or anything that Temporal shows of a run', async () => {
  const { run } = await play(
    'acme',
    [
      call(
        ['record.read', { recordId: 'r1' }],
        ['note.write', { recordId: 'r1', text: 'canary-in-arguments' }],
      ),
    ],
    'canary-in-input',
  );
  const handle = stack.temporal.workflow.getHandle(run.workflowId);
  const history = textOfHistory(await handle.fetchHistory());
  expect(history).toContain('note.write');
  const shown = inspect(await handle.describe(), { depth: 12 });
  const journal = JSON.stringify(await stack.journal('acme'));
  for (const canary of ['secret-acme', 'canary-in-input', 'canary-in-arguments', 'about r1']) {
    const forms = [
      canary,
      Buffer.from(canary).toString('base64').replace(/=+$/, '').slice(0, -2),
      encodeURIComponent(canary),
    ];
    for (const form of forms)
      expect([form, history.includes(form), shown.includes(form), journal.includes(form)]).toEqual([
        form,
        false,
        false,
        false,
      ]);
  }
});

test('S1 without the credential, or without the policy’s word for it, nothing is sent', async () => {
  await stack.apply(policyYaml('nokey'));
  await readyTenant(stack, {
    name: 'nokey',
    keeper: outside.url,
    models: model.url,
    credentials: ['models:generate'],
  });
  const { result, effects, refusals } = await play('nokey', [
    call(['note.write', { recordId: 'r1', text: 'x' }]),
  ]);
  expect(effects).toEqual([]);
  expect(result.stopReason).toBe('credential_unavailable');
  expect(refusals).toMatchObject([
    { rule: 'credential_unavailable', message: expect.stringContaining('put one') },
  ]);
});

test('T3 a take-over that is told 409 while the first attempt is still at work asks again, and never at another position', async () => {
  // The first attempt times out at 3 s and its lease is over at 5 s; the system applies at 7 s and says "in flight" until then.
  outside.faults = { applyAfterMs: 7_000 };
  const { run, result, effects } = await play('acme', [
    call(['note.write', { recordId: 'r1', text: 'slow' }]),
  ]);
  expect(result).toMatchObject({ stopReason: 'completed', usage: { toolCalls: 1, refusals: 0 } });
  expect(await stack.store('acme').payload(run.runId as never, '0.1')).toMatchObject({ outcome: 'done' });
  expect(effects.map(({ operation }) => operation)).toEqual(['POST /notes']);
});

test('T3 a take-over whose look-up finds nothing yet remembers that the first attempt may still be at work', async () => {
  outside.faults = { applyAfterMs: 7_000 };
  const { run, result, effects } = await play('acme', [call(['checked.write', { recordId: 'r1' }])]);
  expect(result).toMatchObject({ stopReason: 'completed', usage: { toolCalls: 1, refusals: 0 } });
  expect(await stack.store('acme').payload(run.runId as never, '0.1')).toMatchObject({ outcome: 'done' });
  expect(effects.map(({ operation }) => operation)).toEqual(['POST /checked']);
});

test('T3 what an action leaves running is cut off with the call: nothing is sent after it', async () => {
  const { result, effects } = await play('acme', [call(['stray.write', { recordId: 'r1' }])]);
  expect(result.stopReason).toBe('completed');
  await new Promise((resolve) => setTimeout(resolve, 1_200));
  expect([...effects, ...outside.effects.filter(({ operation }) => operation.includes('stray'))]).toEqual([]);
});

test('T6 E1 the run’s own target is read before anything is written to it, and a scope field counts at any depth', async () => {
  model.script = plays(
    call(['note.write', { recordId: 'mine', text: 'blind' }]),
    call(['record.read', { recordId: 'mine' }]),
    call(['note.write', { recordId: 'mine', text: 'seen' }]),
  );
  const run = await stack.run('acme', 'go', { recordId: 'mine' });
  await run.result({ timeoutMs: 30_000 });
  expect(
    outside.effects
      .filter(({ recordId }) => recordId === 'mine')
      .map(({ body }) => (body as { text: string }).text),
  ).toEqual(['seen']);
  const { refusals, effects } = await play('acme', [
    call(['payment.send', { recordId: 'r1', amountCents: 100, meta: { for: [{ tenantId: 'globex' }] } }]),
  ]);
  expect(refusals).toMatchObject([{ rule: 'scope.tenantId' }]);
  expect(effects).toEqual([]);
});

test('S2 what a model makes up in its arguments is told to the model alone', async () => {
  const { run, refusals } = await play('acme', [
    call(['note.write', { recordId: 'r1', text: 'x', 'canary-key-4111': 1 }]),
    call(['web.fetch', { url: 'https://canary-host-4111.localhost/' }]),
  ]);
  expect(refusals.map(({ rule }) => rule)).toEqual(['schema', 'egress']);
  const seen = JSON.stringify(model.requests.at(-1)?.messages);
  expect(seen).toContain('canary-key-4111');
  const history = textOfHistory(await stack.temporal.workflow.getHandle(run.workflowId).fetchHistory());
  const journal = JSON.stringify(await stack.journal('acme'));
  for (const canary of ['canary-key', 'canary-host'])
    expect([canary, history.includes(canary), journal.includes(canary)]).toEqual([canary, false, false]);
});

test('Q5 an action that throws before anything was admitted ends the run, by its name alone', async () => {
  const { run, result } = await play('acme', [call(['broken.read', { recordId: 'r1' }])]);
  expect(result.stopReason).toBe('failed');
  const history = textOfHistory(await stack.temporal.workflow.getHandle(run.workflowId).fetchHistory());
  expect(history).toContain('ContractBroken');
  expect(history).not.toContain('canary-of-an-author');
});
