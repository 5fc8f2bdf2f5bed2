import { createHmac, createPrivateKey, sign as rawSign } from 'node:crypto';
import { FlattenedSign, generateKeyPair } from 'jose';
import { canonicalJson } from '../../contracts/digest';
import type { SignedEnvelope } from '../../contracts/envelope';
import { ENVELOPE_TYPE, generateEnvelopeKeys, type EnvelopeKeys } from '../../secrets/envelope-keys';
import { createEnvelopeSigner } from '../../secrets/envelope-signer';
import { createEnvelopeVerifier } from '../../secrets/envelope-verifier';
import { sampleEnvelope } from './sample';

const ID = 'tenant/acme/prod/run/run-1';
const b64 = (text: string): string => Buffer.from(text, 'utf8').toString('base64url');

let keys: EnvelopeKeys;
let signed: SignedEnvelope;
beforeAll(async () => {
  keys = await generateEnvelopeKeys();
  signed = await createEnvelopeSigner(keys).sign(sampleEnvelope());
});

const verifier = (environment = 'prod') => createEnvelopeVerifier({ jwks: keys.jwks, environment });
const rejects = (candidate: unknown, reason: string, workflowId = ID, environment = 'prod') =>
  expect(verifier(environment).verify(candidate, workflowId)).rejects.toMatchObject({
    name: 'EnvelopeRejected',
    reason,
    remedy: expect.stringMatching(/.{20}/),
  });

/** A proof with any header and signature, over the sample's canonical JSON. */
async function proofWith(
  header: object,
  signature: (input: string) => string | Promise<string>,
): Promise<unknown> {
  const protectedText = b64(JSON.stringify(header));
  const input = `${protectedText}.${b64(canonicalJson(signed.envelope))}`;
  return {
    envelope: signed.envelope,
    proof: { protected: protectedText, signature: await signature(input) },
  };
}
const withOurKey = (input: string): string =>
  rawSign(null, Buffer.from(input), createPrivateKey({ key: keys.signingKey, format: 'jwk' })).toString(
    'base64url',
  );

describe('E2 the envelope is proven before any effect', () => {
  test('E2 the true envelope is believed, and what comes back is the checked copy with its scope', async () => {
    const { scope, signed: copy } = await verifier().verify(JSON.parse(JSON.stringify(signed)), ID);
    expect(scope).toMatchObject({ tenantId: 'acme', environment: 'prod', source: 'envelope' });
    expect(copy).toEqual(signed);
    expect(Object.isFrozen(copy.envelope)).toBe(true);
  });

  test('E2 key order and white space do not matter: the canonical form is what is signed', async () => {
    const reversed = Object.fromEntries(Object.entries(signed.envelope).reverse());
    await expect(verifier().verify({ proof: signed.proof, envelope: reversed }, ID)).resolves.toMatchObject({
      signed,
    });
  });

  test.each([
    ['nothing', undefined, 'missing'],
    ['null', null, 'missing'],
    ['a string', 'trust me', 'malformed'],
    ['an empty object', {}, 'malformed'],
    ['a function', () => 1, 'malformed'],
    ['a big integer', { envelope: 1n }, 'malformed'],
  ])('E2 %s is no envelope', async (_, candidate, reason) => rejects(candidate, reason));

  test('E2 an envelope without its proof is refused', async () => {
    await rejects({ envelope: signed.envelope }, 'malformed');
    await rejects({ envelope: signed.envelope, proof: { protected: '', signature: '' } }, 'malformed');
  });

  test('E2 an oversized one is refused before it is parsed', async () =>
    rejects({ ...signed, padding: 'x'.repeat(10_000) }, 'oversized'));

  test('E2 a copy in another workflow is refused: another run, a child, the control workflow, no id of ours', async () => {
    for (const id of [
      'tenant/acme/prod/run/run-2',
      'tenant/acme/prod/run/run-1/child/1',
      'tenant/globex/prod/run/run-1',
      'tenant/acme/prod/control',
      'mine',
      '',
      `${ID}\n`,
      `${ID} `,
    ]) {
      await rejects(signed, 'other_workflow', id);
    }
  });

  test('E2 the signature has one spelling: the same bytes written otherwise are refused', async () => {
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
    const { signature } = signed.proof;
    // 64 bytes fill 85 characters and two bits of the last one.
    const last = alphabet.indexOf(signature.at(-1) ?? '');
    const sibling = `${signature.slice(0, -1)}${alphabet[last ^ 1] ?? ''}`;
    expect(Buffer.from(sibling, 'base64url')).toEqual(Buffer.from(signature, 'base64url'));
    for (const other of [sibling, `${signature}==`, `${signature}\n`]) {
      await rejects(
        { envelope: signed.envelope, proof: { ...signed.proof, signature: other } },
        'bad_signature',
      );
    }
  });

  test('E3 a worker of another environment refuses it', async () =>
    rejects(signed, 'other_environment', ID, 'staging'));

  test.each([
    ['tenantId', { tenantId: 'globex' }],
    ['environment', { environment: 'staging' }],
    ['runId', { runId: 'run-2', rootRunId: 'run-2' }],
    ['parentRunId', { parentRunId: 'run-0' }],
  ])(
    'E1 an envelope whose %s contradicts its workflow id is not signed, and not believed if it were',
    async (_, changes) => {
      const wrong = sampleEnvelope(changes);
      await expect(createEnvelopeSigner(keys).sign(wrong)).rejects.toThrow(/not signed/);
      const jws = await new FlattenedSign(Buffer.from(canonicalJson(wrong)))
        .setProtectedHeader({ alg: 'EdDSA', kid: keys.signingKey.kid, typ: ENVELOPE_TYPE })
        .sign(createPrivateKey({ key: keys.signingKey, format: 'jwk' }));
      const reason = 'environment' in changes ? 'other_environment' : 'contradicts_workflow_id';
      await rejects(
        { envelope: wrong, proof: { protected: jws.protected, signature: jws.signature } },
        reason,
      );
    },
  );

  test('E2 a child has an envelope of its own, bound to its own id', async () => {
    const child = sampleEnvelope({ workflowId: `${ID}/child/1`, runId: 'run-1-1', parentRunId: 'run-1' });
    const proof = await createEnvelopeSigner(keys).sign(child);
    await expect(verifier().verify(proof, `${ID}/child/1`)).resolves.toBeDefined();
    await rejects(proof, 'other_workflow', ID);
    await rejects(proof, 'other_workflow', `${ID}/child/2`);
    await expect(
      createEnvelopeSigner(keys).sign(sampleEnvelope({ workflowId: `${ID}/child/1` })),
    ).rejects.toThrow(/without a parent/);
  });
});

describe('E2 no other algorithm, key or kind of token passes', () => {
  const kid = () => keys.signingKey.kid;

  test('E2 alg none', async () => {
    await rejects(
      await proofWith({ alg: 'none', kid: kid(), typ: ENVELOPE_TYPE }, () => 'AA'),
      'wrong_algorithm',
    );
  });
  test('E2 HS256 with the public key as the shared secret', async () => {
    for (const secret of [keys.jwks.keys[0]?.x ?? '', Buffer.from(keys.jwks.keys[0]?.x ?? '', 'base64url')]) {
      const forged = await proofWith({ alg: 'HS256', kid: kid(), typ: ENVELOPE_TYPE }, (input) =>
        createHmac('sha256', secret).update(input).digest('base64url'),
      );
      await rejects(forged, 'wrong_algorithm');
    }
  });
  test('E2 RS256 and ES256 with a key of the attacker', async () => {
    for (const [alg, reason] of [
      ['RS256', 'malformed'], // 256 bytes are no Ed25519 signature, whatever the header says
      ['ES256', 'wrong_algorithm'],
    ] as const) {
      const { privateKey } = await generateKeyPair(alg);
      const jws = await new FlattenedSign(Buffer.from(canonicalJson(signed.envelope)))
        .setProtectedHeader({ alg, kid: kid(), typ: ENVELOPE_TYPE })
        .sign(privateKey);
      await rejects(
        { envelope: signed.envelope, proof: { protected: jws.protected, signature: jws.signature } },
        reason,
      );
    }
  });
  test('E2 an attacker’s Ed25519 key under our key id, and under its own', async () => {
    const other = await generateEnvelopeKeys();
    const forged = await createEnvelopeSigner(other).sign(sampleEnvelope());
    await rejects(forged, 'unknown_key');
    await rejects(
      await createEnvelopeSigner({ signingKey: { ...other.signingKey, kid: kid() } }).sign(sampleEnvelope()),
      'bad_signature',
    );
  });
  test('E2 a header that brings its own key, or critical extensions, or unencoded payload', async () => {
    const { kty, crv, x } = keys.signingKey;
    for (const extra of [
      { jwk: { kty, crv, x } },
      { jku: 'https://evil.example/jwks' },
      { crit: ['b64'], b64: false },
      { x5c: [] },
    ]) {
      await rejects(
        await proofWith({ alg: 'EdDSA', kid: kid(), typ: ENVELOPE_TYPE, ...extra }, withOurKey),
        'malformed',
      );
    }
  });
  test('E2 a true signature of another kind of token, or with the header spelled otherwise', async () => {
    await rejects(await proofWith({ alg: 'EdDSA', kid: kid(), typ: 'JWT' }, withOurKey), 'wrong_type');
    await rejects(await proofWith({ alg: 'EdDSA', kid: kid() }, withOurKey), 'wrong_type');
    await rejects(
      await proofWith({ typ: ENVELOPE_TYPE, kid: kid(), alg: 'EdDSA' }, withOurKey),
      'unknown_key',
    );
    await expect(
      verifier().verify(await proofWith({ alg: 'EdDSA', kid: kid(), typ: ENVELOPE_TYPE }, withOurKey), ID),
    ).resolves.toBeDefined();
  });
  test('E2 a header that is no JSON', async () => {
    await rejects(
      { envelope: signed.envelope, proof: { protected: b64('{'), signature: 'AA' } },
      'malformed',
    );
    await rejects(
      { envelope: signed.envelope, proof: { protected: b64('7'), signature: 'AA' } },
      'malformed',
    );
  });
});
