import { startModel, plays, type TestModel } from '../support/model';
import { startOutside, type Outside } from '../support/outside';
import { createTestStack, type TestStack } from '../support/stack';
import { tenantYaml } from '../support/tenants';

let stack: TestStack;
let outside: Outside;
let model: TestModel;

beforeAll(async () => {
  [stack, outside, model] = await Promise.all([createTestStack(), startOutside('acct'), startModel(plays())]);
  await stack.apply(tenantYaml({ name: 'acme', keeper: outside.url, models: `${model.url}/v1` }));
  for (const capability of ['keeper:read', 'keeper:write', 'models:generate'])
    await stack.credential('acme', capability, `secret-${capability}`);
});

afterAll(async () => {
  await stack.close();
  await Promise.all([outside.close(), model.close()]);
});

test('E1 Q5 a run reads, writes once and completes, with its envelope, journal and one stop reason', async () => {
  model.script = plays(
    { call: [['record.read', { recordId: 'r1' }]] },
    { call: [['note.write', { recordId: 'r1', text: 'hello' }]] },
  );
  const run = await stack.run('acme', 'look at r1 and note it');
  const result = await run.result({ timeoutMs: 30_000 });
  expect(result).toMatchObject({
    stopReason: 'completed',
    output: 'done',
    usage: { toolCalls: 2, refusals: 0 },
  });
  expect(outside.effects).toHaveLength(1);
  expect(outside.effects[0]).toMatchObject({ recordId: 'r1', bearer: 'Bearer secret-keeper:write' });
});
