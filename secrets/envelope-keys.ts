import { exportJWK, generateKeyPair, type JWK } from 'jose';
import { z } from 'zod';
import { digestOf } from '../contracts/digest';

/** `typ` of an envelope's proof: a token of another kind, even under the same key, is no envelope. */
export const ENVELOPE_TYPE = 'bulkhead-envelope+jws';

/** The one algorithm of envelopes. No header is ever asked which one to use. */
export const ENVELOPE_ALGORITHM = 'EdDSA';

const Base64Url = z.string().regex(/^[A-Za-z0-9_-]{43}$/, 'an Ed25519 key part is 43 base64url characters');
const seconds = z.int().positive();

/** A public Ed25519 key (RFC 8037). `nbf` and `exp`, in seconds, bound when its signatures are believed. */
export const EnvelopePublicKey = z.object({
  kty: z.literal('OKP'),
  crv: z.literal('Ed25519'),
  x: Base64Url,
  kid: z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, 'a key id is 1 to 64 of A-Z, a-z, 0-9, _ and -'),
  nbf: seconds.optional(),
  exp: seconds.optional(),
});
export type EnvelopePublicKey = z.infer<typeof EnvelopePublicKey>;

/** The signing half. It belongs to acceptance alone; no worker that runs tools needs it. */
export const EnvelopeSigningKey = EnvelopePublicKey.extend({ d: Base64Url });
export type EnvelopeSigningKey = z.infer<typeof EnvelopeSigningKey>;

/** The verifiers' keys: one to sign with now, and older ones until the last run they signed is closed. */
export const EnvelopeJwks = z.object({ keys: z.array(EnvelopePublicKey).min(1).max(100) });
export type EnvelopeJwks = z.infer<typeof EnvelopeJwks>;

export interface EnvelopeKeys {
  readonly signingKey: EnvelopeSigningKey;
  readonly jwks: EnvelopeJwks;
}

/**
 * Makes a fresh Ed25519 pair. With `previous`, rotates: the new key signs, the previous public keys stay believed,
 * so that runs in progress go on. Give the new `jwks` to every verifier before the first signature is made with it.
 *
 * `retireAt` (seconds) is when the previous keys stop being believed; absent, they stay until taken out by hand.
 */
export async function generateEnvelopeKeys(rotate?: {
  previous: EnvelopeJwks;
  retireAt?: number;
}): Promise<EnvelopeKeys> {
  const { kid, publicKey, d } = await freshEd25519();
  const earlier = (rotate?.previous.keys ?? []).map((key) => {
    if (rotate?.retireAt === undefined) return key;
    return { ...key, exp: Math.min(key.exp ?? Number.MAX_SAFE_INTEGER, rotate.retireAt) };
  });
  const key = EnvelopePublicKey.parse({ ...publicKey, kid });
  return { signingKey: { ...key, d }, jwks: { keys: [key, ...earlier] } };
}

async function freshEd25519(): Promise<{ kid: string; publicKey: JWK; d: string }> {
  const pair = await generateKeyPair(ENVELOPE_ALGORITHM, { crv: 'Ed25519', extractable: true });
  const { d, ...publicKey } = await exportJWK(pair.privateKey);
  if (d === undefined) throw new TypeError('the generated key has no private part');
  return { kid: digestOf(publicKey).slice(0, 16), publicKey, d };
}

/** The exact protected header of a key's proofs, base64url. There is one spelling: any other is refused. */
export function protectedHeader(kid: string): string {
  const header = JSON.stringify({ alg: ENVELOPE_ALGORITHM, kid, typ: ENVELOPE_TYPE });
  return Buffer.from(header, 'utf8').toString('base64url');
}
