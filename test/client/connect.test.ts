import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createDevIssuer } from '../../client/dev-issuer';
import { generateEnvelopeKeys } from '../../secrets/envelope-keys';
import { Bulkhead } from '../../workers';
import { testTemporal } from '../support/shared-temporal';
import { createTestStack, type TestStack } from '../support/stack';
import { PLAIN_ACME } from '../support/tenants';

let stack: TestStack;
beforeAll(async () => {
  stack = await createTestStack({ workers: false });
  await stack.apply(PLAIN_ACME);
});
afterAll(() => stack.close());

test('U1 a backend connects with addresses from the package’s root, starts a run and leaves nothing open', async () => {
  const keys = await generateEnvelopeKeys();
  const identity = { issuer: 'urn:test:idp', audience: 'bulkhead', keys: { jwks: keys.jwks } };
  const bulkhead = await Bulkhead.connect({
    temporal: testTemporal().address,
    database: stack.database.appUrl,
    identity,
    signer: keys.signingKey,
    environment: stack.environment,
  });
  const issuer = createDevIssuer({
    signingKey: keys.signingKey,
    issuer: identity.issuer,
    audience: identity.audience,
  });
  const token = await issuer.token({
    tenant: 'acme',
    environment: stack.environment,
    workspaces: ['main'],
    subject: 'backend',
    kind: 'service',
  });
  const agent = [...stack.parts.app.agents.keys()][0] ?? '';
  const run = await bulkhead.startRun({ token, agent, input: { n: 1 }, idempotencyKey: 'k' });
  expect(run.acceptance).toMatchObject({ existing: false, started: true });
  expect(await (await bulkhead.run({ token, runId: run.runId })).state()).toBe('accepted');
  await bulkhead.close();
});

test('U1 what is left out comes from the settings, also where all addresses are given: the namespace, and the app', async () => {
  const keys = await generateEnvelopeKeys();
  const identity = { issuer: 'urn:test:idp', audience: 'bulkhead', keys: { jwks: keys.jwks } };
  const issuer = createDevIssuer({
    signingKey: keys.signingKey,
    issuer: identity.issuer,
    audience: 'bulkhead',
  });
  const [agent = ''] = [...stack.parts.app.agents.keys()];
  const given = {
    temporal: testTemporal().address,
    database: stack.database.appUrl,
    identity,
    signer: keys.signingKey,
    environment: stack.environment,
  };
  const before = process.env;
  process.env = {
    PATH: before['PATH'],
    BULKHEAD_STATE_DIR: mkdtempSync(join(tmpdir(), 'bulkhead-none-')),
    BULKHEAD_ENVIRONMENT: stack.environment,
    TEMPORAL_NAMESPACE: 'prod.a1b2c',
  };
  try {
    const bulkhead = await Bulkhead.connect(given);
    const token = await issuer.token({
      ...{ tenant: 'acme', environment: stack.environment, workspaces: ['main'], subject: 'backend' },
    });
    const run = await bulkhead.startRun({ token, agent, input: { n: 2 } });
    await bulkhead.close();
    expect(run.acceptance?.notice).toContain('Temporal has no namespace prod.a1b2c');

    process.env['BULKHEAD_APPP'] = './app';
    await expect(Bulkhead.connect(given)).rejects.toThrow(/did you mean BULKHEAD_APP\?/);
    // Nothing is left to them: they are not looked at.
    const whole = await Bulkhead.connect({ ...given, temporal: stack.temporal, app: stack.parts.app });
    await whole.close();
  } finally {
    process.env = before;
  }
}, 30_000);

test('U1 all that is missing is told together, each with its remedy, and nothing is opened', async () => {
  const before = process.env;
  process.env = { PATH: before['PATH'], BULKHEAD_STATE_DIR: mkdtempSync(join(tmpdir(), 'bulkhead-none-')) };
  try {
    const error: unknown = await Bulkhead.connect().catch((caught: unknown) => caught);
    expect(String(error)).toMatch(/TEMPORAL_ADDRESS/);
    expect(String(error)).toMatch(/BULKHEAD_DATABASE_APP_URL/);
    expect(String(error)).toMatch(/BULKHEAD_TOKEN_ISSUER/);
    expect(String(error)).toMatch(/BULKHEAD_ENVELOPE_SIGNING_KEY/);
    expect(String(error)).toMatch(/bulkhead up/);
    await expect(Bulkhead.connect({ environment: 'PROD' })).rejects.toMatchObject({
      name: 'ConfigError',
      problems: ['environment: an environment is 2 to 16 of a-z, 0-9 and -'],
    });
  } finally {
    process.env = before;
  }
});
