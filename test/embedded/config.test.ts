import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { inspect } from 'node:util';
import { generateEnvelopeKeys } from '../../secrets/envelope-keys';
import { ConfigError, loadConfig, loadConfigOfStack } from '../../workers/config';
import { identify } from '../../workers/embedded/owned-processes';
import { writeStack } from '../../workers/stack';

let directory: string;
beforeAll(() => (directory = mkdtempSync(path.join(os.tmpdir(), 'bulkhead-config-'))));
afterAll(() => rmSync(directory, { recursive: true }));

function problemsOf(env: Record<string, string>): string[] {
  try {
    loadConfig(env);
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return [...error.problems];
    throw error;
  }
}

test('U4 nothing needs to be set: the defaults are those of .env.example', () => {
  const config = loadConfig({});
  expect(config.environment).toBe('prod');
  expect(config.environments).toEqual(['prod']);
  expect(config.temporal).toMatchObject({ address: null, namespace: 'prod' });
  expect(config.database).toEqual({ admin: null, app: null, operator: null });
  expect(config.stateDir).toBe(path.resolve('.bulkhead'));
  expect(config.timing).toMatchObject({ fencePollMs: 300, sweepEveryMs: 10_000, drainGraceMs: 5_000 });
  expect(config.run.continueAsNewAfter).toBe(20);
  expect(config.model('acme')).toBeUndefined();
  expect(loadConfig({ BULKHEAD_LOG_LEVEL: '', TEMPORAL_ADDRESS: '' }).logLevel).toBe('info');
});

test('U4 every problem is reported together, each with its remedy, and no value is repeated', () => {
  const secret = 'hunter2-canary';
  const problems = problemsOf({
    TEMPORAL_ADDRESS: 'nowhere',
    DATABASE_URL: secret,
    BULKHEAD_ENVIRONMENT: 'Prod!',
    BULKHEAD_FENCE_POLL: '5s',
    BULKHEAD_CONTINUE_AS_NEW_AFTER: '0',
    BULKHEAD_MASTER_KEY: secret,
    BULKHEAD_ENVELOPE_SIGNING_KEY: `{"kty":"${secret}"}`,
    BULKHEAD_ENVELOPE_JWKS: path.join(directory, 'absent.json'),
    BULKHEAD_TOKEN_JWKS: `{ not json ${secret}`,
    BULKHEAD_MODEL_BASE_URL: 'ftp://models.example',
    BULKHEAD_LOG_LEVLE: 'debug',
    BULKHEAD_SOMETHING_ELSE_ALTOGETHER: '1',
  });
  const expected = [
    /^TEMPORAL_ADDRESS: write host:port/,
    /^DATABASE_URL: write postgresql:/,
    /^BULKHEAD_ENVIRONMENT: an environment is/,
    /^BULKHEAD_FENCE_POLL: write a duration from 50ms to 900ms/,
    /^BULKHEAD_CONTINUE_AS_NEW_AFTER: write a whole number from 1/,
    /^BULKHEAD_MASTER_KEY: the key is 32 bytes in base64/,
    /^BULKHEAD_ENVELOPE_SIGNING_KEY: write an Ed25519 private key/,
    /^BULKHEAD_ENVELOPE_JWKS: the file .* cannot be read \(ENOENT\)/,
    /^BULKHEAD_TOKEN_JWKS: write a URL, a JWKS/,
    /^BULKHEAD_MODEL_BASE_URL: write an http/,
    /^BULKHEAD_LOG_LEVLE: there is no such setting; did you mean BULKHEAD_LOG_LEVEL\?/,
    /^BULKHEAD_SOMETHING_ELSE_ALTOGETHER: there is no such setting; see \.env\.example/,
  ];
  for (const pattern of expected)
    expect(problems).toEqual(expect.arrayContaining([expect.stringMatching(pattern)]));
  expect(problems).toHaveLength(expected.length);
  expect(problems.join('\n')).not.toContain(secret);
});

test('U4 a password with a bare % is told by its setting, and one that is escaped is taken', () => {
  const names = ['DATABASE_URL', 'BULKHEAD_DATABASE_APP_URL', 'BULKHEAD_DATABASE_OPERATOR_URL'];
  const withPassword = (password: string) =>
    Object.fromEntries(names.map((name) => [name, `postgresql://me:${password}@127.0.0.1:5432/bulkhead`]));
  expect(problemsOf(withPassword('canary%zz'))).toEqual(
    names.map((name): unknown => expect.stringMatching(`^${name}: a % .* as %25$`)),
  );
  expect(problemsOf(withPassword('canary%25zz'))).toEqual([]);
});

test('U4 settings that contradict each other are refused', () => {
  const key = Buffer.alloc(32, 1).toString('base64');
  expect(problemsOf({ BULKHEAD_ENVIRONMENTS: 'staging' })).toEqual([expect.stringMatching(/add prod/)]);
  expect(problemsOf({ BULKHEAD_ENVIRONMENTS: 'prod,staging', TEMPORAL_NAMESPACE: 'x' })).toEqual([
    expect.stringMatching(/one environment only/),
  ]);
  expect(problemsOf({ BULKHEAD_MODEL_MODEL: 'm' })).toEqual([
    expect.stringMatching(/BULKHEAD_MODEL_BASE_URL: set it together/),
  ]);
  expect(problemsOf({ BULKHEAD_MODEL_MODEL__ACME: 'm' })).toEqual([expect.stringMatching(/tenant acme/)]);
  expect(problemsOf({ BULKHEAD_MODEL_MODEL__acme: 'm' })).toEqual([expect.stringMatching(/in capitals/)]);
  const file = path.join(directory, 'master.key');
  writeFileSync(file, `${key}\n`);
  expect(problemsOf({ BULKHEAD_MASTER_KEY: key, BULKHEAD_MASTER_KEY_FILE: file })).toEqual([
    expect.stringMatching(/not both/),
  ]);
  expect(loadConfig({ BULKHEAD_MASTER_KEY_FILE: file }).masterKey?.reveal()).toHaveLength(32);
});

test('S2 no form of a configuration shows a secret, and public keys hold no private part', async () => {
  const { signingKey, jwks } = await generateEnvelopeKeys();
  const key = Buffer.alloc(32, 7).toString('base64');
  const config = loadConfig({
    DATABASE_URL: 'postgresql://admin:hunter2@127.0.0.1:5432/bulkhead',
    BULKHEAD_MASTER_KEY: key,
    BULKHEAD_ENVELOPE_SIGNING_KEY: JSON.stringify(signingKey),
    BULKHEAD_MODEL_BASE_URL: 'https://models.example/v1',
    BULKHEAD_MODEL_MODEL: 'small',
    BULKHEAD_MODEL_API_KEY: 'sk-canary',
  });
  const shown = [
    JSON.stringify(config),
    inspect(config, { depth: 10 }),
    JSON.stringify(config.model('acme')),
    inspect(config.model('acme')),
    String(config.masterKey),
  ].join('\n');
  for (const secret of ['hunter2', key, signingKey.d, 'sk-canary']) expect(shown).not.toContain(secret);
  expect(config.envelope.jwks).toEqual(jwks);
  expect(problemsOf({ BULKHEAD_ENVELOPE_JWKS: JSON.stringify({ keys: [signingKey] }) })).toEqual([
    expect.stringMatching(/public keys alone/),
  ]);
});

test('S1 a model provider is per tenant where the operator says so', () => {
  const config = loadConfig({
    BULKHEAD_MODEL_BASE_URL: 'https://models.example/v1',
    BULKHEAD_MODEL_MODEL: 'small',
    BULKHEAD_MODEL_API_KEY: 'common',
    BULKHEAD_MODEL_API_KEY__BIG_CO: 'own',
    BULKHEAD_MODEL_MODEL__BIG_CO: 'large',
  });
  expect([config.model('big-co')?.name, config.model('big-co')?.apiKey.reveal()]).toEqual(['large', 'own']);
  expect([config.model('acme')?.name, config.model('acme')?.apiKey.reveal()]).toEqual(['small', 'common']);
});

test('U4 commands take from a running stack what the environment leaves open, and nothing from one that is gone', () => {
  const me = identify(process.pid);
  if (!me) throw new Error('this process should be identifiable');
  const stack = {
    supervisor: me,
    startedAt: new Date().toISOString(),
    temporalAddress: '127.0.0.1:7999',
    temporalUiUrl: null,
    temporalBinary: null,
    environments: ['prod'],
    env: { TEMPORAL_ADDRESS: '127.0.0.1:7999', BULKHEAD_LOG_LEVEL: 'debug' },
  };
  writeStack(directory, stack);
  const env = { BULKHEAD_STATE_DIR: directory, BULKHEAD_LOG_LEVEL: 'error' };
  expect(loadConfigOfStack(env).temporal.address).toBe('127.0.0.1:7999');
  expect(loadConfigOfStack(env).logLevel).toBe('error');
  writeStack(directory, { ...stack, supervisor: { ...me, startedAt: 'long ago' } });
  expect(loadConfigOfStack(env).temporal.address).toBeNull();
});
