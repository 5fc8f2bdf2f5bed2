import type { Run } from '../../client/run';
import { MAX_CONVERSATION_BYTES } from '../../contracts/calls';
import { call, idOf, on, openDesk, type Desk } from './desk';

/** Providers and models that do what none should. */

let desk: Desk;
beforeAll(async () => {
  desk = await openDesk();
});
beforeEach(() => {
  desk.model.fault = undefined;
});
afterAll(() => desk.close());

const ofModel = async (tenant: string, run: Run, path: string): Promise<Record<string, unknown>[]> =>
  await desk.journalOf(tenant, run, path);

test.each([200, 204])(
  'N7 Q4 a success (%d) that is no completion is the provider’s trouble: asked again, and told to its breaker',
  async (status) => {
    const name = `page-${status}`;
    await desk.tenant(name);
    const faults = [{ status }];
    desk.model.fault = () => faults.shift();
    const { run, result } = await desk.play(name, []);
    expect(result.stopReason).toBe('completed');
    const settled = (await ofModel(name, run, '0.0')).filter(({ kind }) => kind === 'settled');
    // On a machine under load a host may lack a fresh word of the fence, and sends nothing in an attempt.
    expect(new Set(settled.map(({ result: how }) => how))).toEqual(new Set(['open', 'succeeded']));
  },
);

test('N7 P5 a model whose provider answers pages has its fallback', async () => {
  await desk.tenant('spared', {
    modelRules: '[{ model: "models/*" }], fallback: [{ model: "models/scripted", to: ["models/small"] }]',
  });
  desk.model.fault = (model) => (model === 'scripted' ? { status: 200 } : undefined);
  const before = desk.model.requests.length;
  const { result } = await desk.play('spared', []);
  expect(result.stopReason).toBe('completed');
  expect(desk.model.requests.slice(before).at(-1)?.model).toBe('small');
});

test('Q5 N6 more calls in one answer than a run may be asked for at once are thrown away with it', async () => {
  await desk.tenant('flooded');
  const many = (count: number) =>
    call(...Array.from({ length: count }, () => ['vault.open', {}] as [string, unknown]));
  const { run, result } = await desk.play('flooded', [many(65)]);
  expect(result).toMatchObject({ stopReason: 'provider_degraded', usage: { toolCalls: 0, refusals: 0 } });
  expect((await desk.stack.refusals('flooded', run.runId)).at(-1)).toMatchObject({
    refusal: {
      rule: 'result_size',
      message: expect.stringContaining('65 tool calls at once and may ask for 64'),
    },
  });
  const some = await desk.play('flooded', [many(64)]);
  expect(some.result).toMatchObject({ stopReason: 'completed', usage: { refusals: 64 } });
});

test('N6 Q5 a run that was told more than a model may be asked with ends, and says so', async () => {
  await desk.tenant('told');
  const run = await desk.begin('told', async ({ moves }) => {
    if (moves === 0)
      await desk.stack.store('told').putPayload(idOf(run), '0.9', {
        kind: 'tool',
        outcome: 'done',
        action: 'record.read',
        result: 'x'.repeat(MAX_CONVERSATION_BYTES),
      });
    return on('record.read');
  });
  const before = desk.model.requests.length;
  expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({ stopReason: 'budget_exceeded' });
  expect(desk.model.requests.length - before).toBeLessThanOrEqual(1);
  const [refusal] = await desk.stack.refusals('told', run.runId);
  expect(refusal).toMatchObject({
    refusal: { kind: 'budget_exceeded', origin: 'platform', rule: 'conversation_bytes' },
  });
});
