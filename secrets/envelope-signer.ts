import { createPrivateKey } from 'node:crypto';
import { FlattenedSign, type JWK } from 'jose';
import { canonicalJson } from '../contracts/digest';
import { Envelope, type SignedEnvelope } from '../contracts/envelope';
import type { EnvelopeSigner } from '../contracts/secrets-ports';
import { bindingMismatch } from './envelope-binding';
import { ENVELOPE_ALGORITHM, ENVELOPE_TYPE, EnvelopeSigningKey } from './envelope-keys';

/**
 * Signs envelopes: Ed25519, a flattened JWS (RFC 7515) with detached payload (its appendix F) over the canonical
 * JSON of the envelope.
 *
 * Throws a TypeError, here for a key that cannot sign envelopes, and in `sign` for an envelope that contradicts its
 * own workflow id or a signing key outside its time.
 */
export function createEnvelopeSigner(options: { signingKey: JWK; now?: () => number }): EnvelopeSigner {
  const parsed = EnvelopeSigningKey.safeParse(options.signingKey);
  if (!parsed.success) {
    const mistakes = parsed.error.issues
      .map((issue) => `${issue.path.join('.')}: ${issue.message}`)
      .join('; ');
    throw new TypeError(
      `the envelope signing key is no Ed25519 JWK (${mistakes}): make one with generateEnvelopeKeys`,
    );
  }
  const { kid, kty, crv, x, d, nbf = 0, exp = Number.POSITIVE_INFINITY } = parsed.data;
  const now = options.now ?? Date.now;
  const key = createPrivateKey({ key: { kty, crv, x, d }, format: 'jwk' });

  return {
    async sign(candidate): Promise<SignedEnvelope> {
      const envelope = Envelope.parse(candidate);
      const mismatch = bindingMismatch(envelope);
      if (mismatch) throw new TypeError(`this envelope is not signed: ${mismatch}`);
      const seconds = now() / 1_000;
      if (seconds < nbf || seconds >= exp)
        throw new TypeError(`signing key ${kid} is outside its time: rotate the envelope keys`);

      const payload = new TextEncoder().encode(canonicalJson(envelope));
      const jws = await new FlattenedSign(payload)
        .setProtectedHeader({ alg: ENVELOPE_ALGORITHM, kid, typ: ENVELOPE_TYPE })
        .sign(key);
      if (jws.protected === undefined) throw new TypeError('the signature has no protected header');
      return { envelope, proof: { protected: jws.protected, signature: jws.signature } };
    },
  };
}
