import { PLAIN_ACME } from '../support/tenants';
import { createCliWorld, type CliWorld } from './world';

/** What is wrong with the command line is told in words, with what is allowed. */

let world: CliWorld;
beforeAll(async () => {
  world = await createCliWorld();
  await world.stack.apply(PLAIN_ACME);
});
afterAll(() => world.close());

test.each([
  [['--ttl', '48h'], '--ttl: a token lives from 1s to 24h'],
  [['--ttl', '0s'], '--ttl: a token lives from 1s to 24h'],
  [['--ttl', '500ms'], '--ttl: a token lives from 1s to 24h'],
  [['--ttl', 'soon'], '--ttl: "soon" is no duration'],
  [['--workspace', 'Main'], '--workspace: a workspace id is 1 to 40 of a-z'],
  [['--workspace', 'main', '../x'], '--workspace: a workspace id is 1 to 40 of a-z'],
  [['--role', 'Finance'], '--role: a role is 1 to 64 of a-z'],
  [['--subject', ''], '--subject: a subject is 1 to 200 characters'],
  [['--subject', 'x'.repeat(201)], '--subject: a subject is 1 to 200 characters'],
])('U2 token %j is a usage error that says what is allowed', async (args, said) => {
  const ran = await world.run(['token', '--tenant', 'acme', ...args]);
  expect(ran).toMatchObject({ code: 2, out: '', said: expect.stringContaining(said) });
  expect(ran.said).not.toMatch(/[{[]/);
});

test('U2 a token lives a day at most, and a day it may', async () => {
  const { code, out } = await world.run(['token', '--tenant', 'acme', '--ttl', '24h', '-o', 'json']);
  expect(code).toBe(0);
  expect(JSON.parse(out)).toMatchObject({ expiresInSeconds: 86_400 });
});

test('U2 what needs the app says which setting names it', async () => {
  expect(await world.run(['agent', 'list'], { app: null })).toMatchObject({
    code: 2,
    out: '',
    said: expect.stringContaining('set BULKHEAD_APP'),
  });
});
