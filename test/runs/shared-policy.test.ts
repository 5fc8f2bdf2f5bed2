import { createPolicies } from '../../activities/policies';
import { compileInTurns, compileProfile } from '../../policy/compile';
import { createTestStack, type TestStack } from '../support/stack';
import { policyYaml, tenantYaml } from '../support/tenants';

let stack: TestStack;
beforeAll(async () => {
  stack = await createTestStack({ workers: false });
});
afterAll(() => stack.close());

const documents = (tenant: string): string =>
  tenantYaml({ name: tenant, keeper: 'http://127.0.0.1:9', models: 'http://127.0.0.1:9/v1' }).replaceAll(
    `profile_${tenant}`,
    'profile_shared',
  );

test('N6 P10 tenants of one profile share what a host has compiled of it; another version is another policy', async () => {
  await stack.apply(documents('one'));
  await stack.apply(
    documents('two').replaceAll('metadata: { name: profile_shared }', 'metadata: { name: profile_unused }'),
  );
  const policies = createPolicies(stack.parts.app);
  const of = async (tenant: string, version?: number) => {
    const store = stack.store(tenant);
    const inForce = await policies.inForce(store, version ?? (await store.policyText())?.version ?? 0);
    return 'policy' in inForce ? inForce.policy : undefined;
  };
  const [one, two] = await Promise.all([of('one'), of('two')]);
  expect(one).toBeDefined();
  expect(two).toBe(one);
  await stack.apply(policyYaml('shared', '  - { id: none, effect: forbid, actions: ["*"] }'));
  const newer = await of('one');
  expect(newer?.version).toBeGreaterThan(one?.version ?? 0);
  expect(await of('two')).toBe(newer);
  expect(await of('two', one?.version)).not.toBe(newer);
});

test('N6 while a host compiles a profile, others on it have their turn after each of its rules', async () => {
  const rules = Array.from(
    { length: 30 },
    (_, index) =>
      `{ id: r${index}, effect: allow, actions: ["record.read"], when: "context.args.recordId == \\"r${index}\\"" }`,
  );
  const text = policyYaml('large', rules.map((rule) => `  - ${rule}`).join('\n')).replaceAll(
    '${ENV}',
    stack.environment,
  );
  const input = { text, version: 1, ...stack.parts.app };
  let turns = 0;
  let done = false;
  const tick = (): void => {
    turns += 1;
    if (!done) setImmediate(tick);
  };
  setImmediate(tick);
  const compiled = await compileInTurns(input);
  done = true;
  expect(compiled.ok || compiled.mistakes).toBe(true);
  expect(turns).toBeGreaterThan(rules.length);
  const atOnce = compileProfile(input);
  expect(atOnce.ok && compiled.ok && [atOnce.policy.profile, atOnce.policy.version]).toEqual(
    compiled.ok && [compiled.policy.profile, compiled.policy.version],
  );
});
