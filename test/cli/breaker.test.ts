import { Client } from 'pg';
import { createCliWorld, type CliWorld } from './world';

const DOCUMENTS = ['acme', 'globex']
  .map(
    (name) => `
apiVersion: bulkhead/v1
kind: Tenant
metadata: { name: ${name} }
environments: { \${ENV}: { policyProfile: careful, quotaClass: small } }
workspaces: [main]
---`,
  )
  .concat(['\napiVersion: bulkhead/v1\nkind: QuotaClass\nmetadata: { name: small }\n'])
  .join('');

let world: CliWorld;
beforeAll(async () => {
  world = await createCliWorld();
  expect(await world.run(['tenant', 'create', '-f', world.file('tenants.yaml', DOCUMENTS)])).toMatchObject({
    code: 0,
  });
  const admin = new Client({ connectionString: world.stack.database.adminUrl });
  await admin.connect();
  await admin.query(
    `insert into bulkhead.breakers (tenant_id, environment, system, state, failures, failed_at, cause, opened_at, open_until) values
       ('acme', $1, 'keeper', 'open', 13, '{}', 'keeper.example answered 503', '2026-11-22T11:30:00Z', '2026-11-22T11:31:00Z'),
       ('acme', $1, 'models', 'half_open', 10, '{}', 'no answer', '2026-11-22T11:00:00Z', '2026-11-22T11:00:05Z'),
       ('acme', $1, 'mail', 'closed', 2, '{}', 'no answer', null, null)`,
    [world.stack.environment],
  );
  await admin.end();
});
afterAll(() => world.close());

test('N5 U2 tenant show says which systems are left alone, since when, until when and why; of that tenant alone', async () => {
  const { out } = await world.run(['tenant', 'show', 'acme']);
  expect(out).toMatch(
    /left alone +keeper: failing since 2026-11-22T11:30:00\.000000Z, 13 times; let alone until 2026-11-22T11:31:00\.000000Z; last: keeper\.example answered 503/,
  );
  expect(out).toMatch(/models: failing since [^\n]* one call finds out whether it is well again/);
  expect(out).not.toContain('mail');
  expect((await world.run(['tenant', 'show', 'globex'])).out).toMatch(/left alone +-/);
  const { breakers } = JSON.parse((await world.run(['tenant', 'show', 'acme', '-o', 'json'])).out) as {
    breakers: unknown[];
  };
  expect(breakers).toMatchObject([
    { system: 'keeper', state: 'open' },
    { system: 'models', state: 'half_open' },
    { system: 'mail', state: 'closed', failures: 2, openUntil: null },
  ]);
});
