import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { Environment, TenantId } from '../../contracts/ids';
import { createSealer, masterKeyOf, openCredential, SealBroken } from '../../secrets/seal';

const owner = (tenant = 'acme', environment = 'prod') => ({
  tenantId: TenantId.parse(tenant),
  environment: Environment.parse(environment),
});
const key = masterKeyOf(randomBytes(32));
const other = masterKeyOf(randomBytes(32));
const sealed = (
  secret: string,
  scope = owner(),
  capability = 'payments:refund',
  version = 1,
  keys = [key],
) => ({
  capability,
  version,
  ...createSealer(keys)({ scope, capability, version, secret, existing: null }),
});

test('S4 what is sealed opens for its tenant, capability and version', () => {
  fc.assert(
    fc.property(
      fc.string({
        unit: fc.integer({ min: 0x21, max: 0x7e }).map((code) => String.fromCharCode(code)),
        minLength: 1,
      }),
      (secret) => {
        const stored = sealed(secret);
        expect(openCredential([key], owner(), stored).toString()).toBe(secret);
        expect(stored.ciphertext.includes(secret) && secret.length > 4).toBe(false);
      },
    ),
    { numRuns: 100 },
  );
});

test('S4 moved to another tenant, environment, capability or version it does not open', () => {
  const stored = sealed('sk-1');
  const moved: [ReturnType<typeof owner>, typeof stored][] = [
    [owner('globex'), stored],
    [owner('acme', 'staging'), stored],
    [owner(), { ...stored, capability: 'payments:read' }],
    [owner(), { ...stored, version: 2 }],
    [owner(), { ...stored, ciphertext: sealed('sk-2', owner('globex')).ciphertext }],
    [owner(), { ...stored, wrappedKey: sealed('sk-2', owner('globex')).wrappedKey }],
    [owner(), { ...stored, wrappedKey: sealed('sk-2').wrappedKey }],
    [owner(), { ...stored, keyId: other.id }],
  ];
  for (const [scope, credential] of moved)
    expect(() => openCredential([key, other], scope, credential)).toThrow(SealBroken);
  expect(() => openCredential([other], owner(), stored)).toThrow(SealBroken);
});

test('S4 every flipped bit and every cut is noticed', () => {
  const stored = sealed('sk-live-canary');
  for (const part of ['ciphertext', 'wrappedKey'] as const) {
    for (let bit = 0; bit < stored[part].length * 8; bit += 1) {
      const bytes = Buffer.from(stored[part]);
      bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(() => openCredential([key], owner(), { ...stored, [part]: bytes })).toThrow(SealBroken);
    }
    for (const length of [0, 1, 12, 28, stored[part].length - 1]) {
      expect(() =>
        openCredential([key], owner(), { ...stored, [part]: stored[part].subarray(0, length) }),
      ).toThrow(SealBroken);
    }
  }
});

test('S4 the same secret twice is never the same bytes, and each tenant has a key of its own', () => {
  const texts = Array.from({ length: 20 }, () => sealed('sk-1').ciphertext.toString('hex'));
  expect(new Set(texts).size).toBe(20);
  expect(sealed('a').wrappedKey.equals(sealed('a', owner('globex')).wrappedKey)).toBe(false);
});

test('S3 after a rotation of the master key what was sealed before still opens, and the tenant keeps its key', () => {
  const before = sealed('sk-old');
  const after = createSealer([other, key])({
    scope: owner(),
    capability: 'payments:refund',
    version: 2,
    secret: 'sk-new',
    existing: before,
  });
  expect(after.keyId).toBe(key.id);
  expect(
    openCredential([other, key], owner(), { ...after, capability: 'payments:refund', version: 2 }).toString(),
  ).toBe('sk-new');
  expect(sealed('sk', owner('initech'), 'a:b', 1, [other, key]).keyId).toBe(other.id);
});

test('S2 a secret that no header can carry is refused before it is stored, unnamed in the error', () => {
  for (const secret of [
    '',
    'canary secret',
    'canary\r\nX-Evil: 1',
    'canary\u0000',
    'canäry',
    'c'.repeat(8_193),
  ]) {
    let said = '';
    try {
      sealed(secret);
    } catch (error) {
      said = `${String(error)} ${(error as Error).stack ?? ''}`;
    }
    expect(said).toMatch(/TypeError: the secret for payments:refund/);
    expect(said).not.toMatch(/can.?ry/);
  }
});

test('S4 a master key is 32 bytes, and an error does not repeat what was given', () => {
  expect(masterKeyOf(key.bytes.toString('base64')).id).toBe(key.id);
  for (const wrong of ['', 'canary', Buffer.alloc(31), Buffer.alloc(33).toString('base64')]) {
    expect(() => masterKeyOf(wrong)).toThrow(/a master key is 32 bytes, in base64/);
  }
  expect(() => masterKeyOf('canary')).not.toThrow(/canary/);
});
