import { createHmac } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SignJWT, exportJWK, generateKeyPair, importJWK, type JWTPayload } from 'jose';
import { createDevIssuer } from '../../client/dev-issuer';
import { createTokenVerifier } from '../../client/identity';
import { generateEnvelopeKeys, type EnvelopeKeys } from '../../secrets/envelope-keys';
import { createEnvelopeSigner } from '../../secrets/envelope-signer';
import { sampleEnvelope } from '../envelope/sample';

const ISSUER = 'https://login.example.com/';
const AUDIENCE = 'bulkhead';
const NOW = Date.parse('2026-06-01T12:00:00Z');
const SECONDS = NOW / 1_000;

let keys: EnvelopeKeys;
let foreign: EnvelopeKeys;
beforeAll(async () => {
  keys = await generateEnvelopeKeys();
  foreign = await generateEnvelopeKeys();
});

const verifier = (over: Partial<Parameters<typeof createTokenVerifier>[0]> = {}) =>
  createTokenVerifier({
    issuer: ISSUER,
    audience: AUDIENCE,
    keys: { jwks: keys.jwks },
    environment: 'prod',
    now: () => NOW,
    ...over,
  });

const CLAIMS = {
  sub: 'alice',
  iss: ISSUER,
  aud: AUDIENCE,
  iat: SECONDS - 10,
  exp: SECONDS + 300,
  'bulkhead:tenant': 'acme',
  'bulkhead:environment': 'prod',
  'bulkhead:workspaces': ['main'],
  'bulkhead:roles': ['finance'],
  'bulkhead:kind': 'user',
};
async function token(
  claims: Record<string, unknown> = {},
  by: EnvelopeKeys = keys,
  header: Record<string, unknown> = {},
): Promise<string> {
  const all = Object.fromEntries(
    Object.entries({ ...CLAIMS, ...claims }).filter(([, value]) => value !== undefined),
  );
  return new SignJWT(all)
    .setProtectedHeader({ alg: 'EdDSA', kid: by.signingKey.kid, typ: 'JWT', ...header })
    .sign(await importJWK(by.signingKey, 'EdDSA'));
}
const b64 = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');

test('E1 a verified token gives scope, principal, workspaces and roles, and nothing else', async () => {
  await expect(verifier().verify(await token())).resolves.toEqual({
    scope: { tenantId: 'acme', environment: 'prod', source: 'token' },
    principal: { kind: 'user', subject: 'alice' },
    workspaces: ['main'],
    roles: ['finance'],
  });
});

test('E1 the development issuer’s tokens are believed by a verifier of its keys, for as long as they say', async () => {
  const issuer = createDevIssuer({
    signingKey: keys.signingKey,
    issuer: ISSUER,
    audience: AUDIENCE,
    now: () => NOW,
  });
  const made = await issuer.token({
    tenant: 'acme',
    environment: 'prod',
    workspaces: ['main'],
    subject: 'dev',
    ttlSeconds: 60,
  });
  await expect(verifier().verify(made)).resolves.toMatchObject({ scope: { tenantId: 'acme' } });
  await expect(verifier({ now: () => NOW + 66_000 }).verify(made)).rejects.toMatchObject({
    reason: 'expired',
  });
  await expect(
    issuer.token({ tenant: 'Acme!', environment: 'prod', workspaces: ['main'], subject: 'dev' }),
  ).rejects.toThrow();
  expect(() =>
    createDevIssuer({ signingKey: keys.jwks.keys[0] ?? {}, issuer: ISSUER, audience: AUDIENCE }),
  ).toThrow(/private/);
});

/** Every way in which somebody may claim to be a tenant that they are not. */
const ATTACKS: [string, () => Promise<string | undefined> | string | undefined, string][] = [
  ['no token', () => undefined, 'missing'],
  ['an empty token', () => '', 'missing'],
  ['no JWT', () => 'acme', 'malformed'],
  ['an encrypted-looking token', () => 'aGVhZA.a2V5.aXY5OTk5.Ym9keQ.dGFnZw', 'malformed'],
  ['a huge token', () => 'x'.repeat(20_000), 'malformed'],
  ['an unsigned token (alg none)', () => `${b64({ alg: 'none' })}.${b64(CLAIMS)}.`, 'wrong_algorithm'],
  ['alg none in capitals', () => `${b64({ alg: 'NONE' })}.${b64(CLAIMS)}.`, 'wrong_algorithm'],
  [
    'HS256 keyed with the public key',
    () => {
      const input = `${b64({ alg: 'HS256', kid: keys.signingKey.kid })}.${b64(CLAIMS)}`;
      return `${input}.${createHmac('sha256', Buffer.from(keys.signingKey.x, 'base64url')).update(input).digest('base64url')}`;
    },
    'wrong_algorithm',
  ],
  [
    'the signature cut off',
    async () => (await token()).split('.').slice(0, 2).join('.') + '.',
    'bad_signature',
  ],
  [
    'another tenant written into a true token',
    async () => swap(await token(), { 'bulkhead:tenant': 'globex' }),
    'bad_signature',
  ],
  [
    'a longer life written into a true token',
    async () => swap(await token({ exp: SECONDS - 100 }), { exp: SECONDS + 1e6 }),
    'bad_signature',
  ],
  ['a stranger’s key', () => token({}, foreign), 'unknown_key'],
  [
    'a stranger’s key under our key id',
    () => token({}, foreign, { kid: keys.signingKey.kid }),
    'bad_signature',
  ],
  [
    'a stranger’s key brought along in the header',
    () => token({}, foreign, { jwk: foreign.jwks.keys[0], kid: keys.signingKey.kid }),
    'bad_signature',
  ],
  ['an expired token', () => token({ exp: SECONDS - 60 }), 'expired'],
  ['a token without an end', () => token({ exp: undefined }), 'claims'],
  ['a token from the future (nbf)', () => token({ nbf: SECONDS + 60 }), 'not_yet_valid'],
  ['a token from the future (iat)', () => token({ iat: SECONDS + 60 }), 'not_yet_valid'],
  ['a foreign audience', () => token({ aud: 'billing' }), 'wrong_audience'],
  ['no audience', () => token({ aud: undefined }), 'claims'],
  ['another issuer', () => token({ iss: 'https://evil.example/' }), 'wrong_issuer'],
  ['an issuer with a path appended', () => token({ iss: `${ISSUER}x` }), 'wrong_issuer'],
  ['no subject', () => token({ sub: undefined }), 'claims'],
  ['no tenant', () => token({ 'bulkhead:tenant': undefined }), 'claims'],
  ['an empty tenant', () => token({ 'bulkhead:tenant': '' }), 'claims'],
  ['two tenants', () => token({ 'bulkhead:tenant': ['acme', 'globex'] }), 'claims'],
  ['a tenant that is a path', () => token({ 'bulkhead:tenant': 'acme/../globex' }), 'claims'],
  ['a tenant in look-alike letters', () => token({ 'bulkhead:tenant': 'аcme' }), 'claims'],
  ['a tenant in other case', () => token({ 'bulkhead:tenant': 'ACME' }), 'claims'],
  [
    'the tenant under another claim’s name',
    () => token({ 'bulkhead:tenant': undefined, tenant: 'acme' }),
    'claims',
  ],
  ['another environment', () => token({ 'bulkhead:environment': 'staging' }), 'other_environment'],
  ['no environment', () => token({ 'bulkhead:environment': undefined }), 'claims'],
  ['no workspaces', () => token({ 'bulkhead:workspaces': [] }), 'claims'],
  ['a wildcard workspace', () => token({ 'bulkhead:workspaces': ['*'] }), 'claims'],
  ['roles as one text', () => token({ 'bulkhead:roles': 'finance' }), 'claims'],
  ['no kind', () => token({ 'bulkhead:kind': undefined }), 'claims'],
  ['a kind of its own making', () => token({ 'bulkhead:kind': 'operator' }), 'claims'],
  [
    'another kind of token under the same key',
    () => token({}, keys, { typ: 'bulkhead-envelope+jws' }),
    'malformed',
  ],
  [
    'a run’s envelope as a token',
    async () => {
      const { envelope, proof } = await createEnvelopeSigner(keys).sign(sampleEnvelope());
      return `${proof.protected}.${b64(envelope)}.${proof.signature}`;
    },
    'bad_signature',
  ],
];

function swap(jwt: string, claims: JWTPayload): string {
  const [header = '', payload = '', signature = ''] = jwt.split('.');
  const read = JSON.parse(Buffer.from(payload, 'base64url').toString()) as JWTPayload;
  return `${header}.${b64({ ...read, ...claims })}.${signature}`;
}

describe('E1 tenant spoof: every false token is refused, with its reason and a remedy, and no part of it repeated', () => {
  test.each(ATTACKS)('E1 %s', async (_, make, reason) => {
    const false_ = await make();
    const error: Error = await verifier()
      .verify(false_)
      .then(
        () => Promise.reject(new Error('it was believed')),
        (caught: unknown) => caught as Error,
      );
    expect(error).toMatchObject({ name: 'BulkheadError', code: 'unauthenticated', reason });
    expect(error.message).toMatch(/bulkhead token|clocks/);
    const signature = false_?.split('.')[2];
    if (signature) expect(error.message).not.toContain(signature);
  });

  test('E1 control arm: read without verification, the same tokens would name a tenant', async () => {
    let passed = 0;
    for (const [, make] of ATTACKS) {
      const payload = (await make())?.split('.')[1];
      if (!payload || !/^[\w-]{20,}$/.test(payload)) continue;
      const claims = JSON.parse(Buffer.from(payload, 'base64url').toString()) as JWTPayload;
      if (claims['bulkhead:tenant'] === 'acme' || claims['bulkhead:tenant'] === 'globex') passed += 1;
    }
    expect(passed).toBeGreaterThan(20);
  });

  test('E1 clocks may differ by the tolerance, and by no more', async () => {
    const late = await token({ exp: SECONDS - 3 });
    await expect(verifier().verify(late)).resolves.toBeDefined();
    await expect(verifier({ clockToleranceSeconds: 0 }).verify(late)).rejects.toMatchObject({
      reason: 'expired',
    });
    expect(() => verifier({ clockToleranceSeconds: 3_600 })).toThrow();
  });
});

describe('E1 the issuer’s keys', () => {
  test('E1 while an issuer changes its key, a token without a key id is held against each that it may be of', async () => {
    const third = await generateEnvelopeKeys();
    const published = [...foreign.jwks.keys, ...keys.jwks.keys];
    const changing = verifier({ keys: { jwks: { keys: published } } });
    const unnamed = (by: EnvelopeKeys, claims = {}) => token(claims, by, { kid: undefined });
    await expect(changing.verify(await unnamed(keys))).resolves.toMatchObject({
      principal: { subject: 'alice' },
    });
    await expect(changing.verify(await unnamed(foreign))).resolves.toBeDefined();
    for (const [made, reason] of [
      [unnamed(third), 'bad_signature'],
      // What is wrong with it is told as of any other token, whichever key it is under.
      [unnamed(keys, { exp: SECONDS - 60 }), 'expired'],
      [unnamed(foreign, { aud: 'billing' }), 'wrong_audience'],
      [unnamed(keys, { 'bulkhead:tenant': undefined }), 'claims'],
    ] as const)
      await expect(changing.verify(await made)).rejects.toMatchObject({ code: 'unauthenticated', reason });
  });

  test('E1 come from a file, or over HTTP, and a key set with secrets in it is refused', async () => {
    const file = join(mkdtempSync(join(tmpdir(), 'bulkhead-jwks-')), 'jwks.json');
    writeFileSync(file, JSON.stringify(keys.jwks));
    await expect(verifier({ keys: { file } }).verify(await token())).resolves.toBeDefined();

    expect(() => verifier({ keys: { jwks: { keys: [keys.signingKey] } } })).toThrow(/public keys only/);
    expect(() => verifier({ keys: { jwks: { keys: [{ kty: 'oct', k: 'c2VjcmV0' }] } } })).toThrow(
      /public keys only/,
    );
    expect(() => verifier({ keys: { jwks: { keys: [] } } })).toThrow(/JWKS/);
  });

  test('E1 an issuer that does not answer makes tokens unverifiable, not believed; it says so as unavailable', async () => {
    const { publicKey, privateKey } = await generateKeyPair('RS256', { extractable: true });
    const jwk = { ...(await exportJWK(publicKey)), kid: 'rsa-1', alg: 'RS256' };
    let up = false;
    const server = createServer((_, response) => {
      response.statusCode = up ? 200 : 500;
      response.setHeader('content-type', 'application/json');
      response.end(up ? JSON.stringify({ keys: [jwk] }) : 'down');
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks.json`;
    const made = await new SignJWT(CLAIMS)
      .setProtectedHeader({ alg: 'RS256', kid: 'rsa-1' })
      .sign(privateKey);
    const remote = verifier({ keys: { url } });
    await expect(remote.verify(made)).rejects.toMatchObject({ code: 'unavailable', reason: 'issuer_keys' });
    up = true;
    await expect(remote.verify(made)).resolves.toMatchObject({ principal: { subject: 'alice' } });
    await new Promise((resolve) => server.close(resolve));
  });
});
