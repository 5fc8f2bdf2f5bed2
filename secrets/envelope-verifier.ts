import { createPublicKey, type KeyObject } from 'node:crypto';
import { errors, flattenedVerify, type JSONWebKeySet } from 'jose';
import { canonicalJson } from '../contracts/digest';
import { SignedEnvelope } from '../contracts/envelope';
import { Environment } from '../contracts/ids';
import type { EnvelopeVerifier } from '../contracts/secrets-ports';
import type { TenantScope } from '../contracts/scope';
import { mintScope } from '../contracts/scope-mint';
import { bindingMismatch } from './envelope-binding';
import { ENVELOPE_ALGORITHM, EnvelopeJwks, protectedHeader, type EnvelopePublicKey } from './envelope-keys';
import { EnvelopeRejected, reasonOfHeader } from './envelope-rejected';

/** An envelope has about 1 kB; what is larger is not parsed. In characters of its JSON. */
const MAX_TEXT = 8_192;

/** Verified envelopes kept, about 3 kB each: more than the runs that one host works on at once. */
const CACHE_SIZE = 2_000;

interface Verified {
  readonly scope: TenantScope;
  readonly signed: SignedEnvelope;
}
interface TrustedKey {
  readonly kid: string;
  /** Seconds. */
  readonly notBefore: number;
  readonly expires: number;
  readonly key: KeyObject;
}

/**
 * Verifies envelopes for the workers of one environment (promise E2). It fails closed: everything but a well-formed
 * envelope of this environment, signed by a known key within its time, and bound to exactly the calling workflow's
 * id, rejects with {@link EnvelopeRejected}. What it resolves is the parsed copy that was checked, never the input.
 *
 * A verified envelope is remembered by the exact text presented and the workflow id, so that the next call of the
 * same run costs microseconds. Any other text is verified in full, and a key's time is checked at every call.
 *
 * Throws a TypeError for keys that are none, or two of one id.
 */
export function createEnvelopeVerifier(options: {
  jwks: JSONWebKeySet;
  environment: string;
  now?: () => number;
  cacheSize?: number;
}): EnvelopeVerifier {
  const environment = Environment.parse(options.environment);
  const now = options.now ?? Date.now;
  const cacheSize = options.cacheSize ?? CACHE_SIZE;
  const keys = trustedKeys(options.jwks);
  const cache = new Map<string, { verified: Verified; key: TrustedKey }>();

  return {
    async verify(candidate, workflowId): Promise<Verified> {
      const text = textOf(candidate);
      // JSON text has no line break, so no other pair of id and text reads the same.
      const cacheKey = `${workflowId}\n${text}`;
      const known = cache.get(cacheKey);
      if (known) {
        requireTime(known.key, now());
        cache.delete(cacheKey);
        cache.set(cacheKey, known);
        return known.verified;
      }

      const signed = parse(text);
      const key = keys.get(signed.proof.protected);
      if (!key) throw new EnvelopeRejected(reasonOfHeader(signed.proof.protected));
      requireTime(key, now());
      await requireSignature(signed, key);
      requireBinding(signed, workflowId, environment);

      const { tenantId } = signed.envelope;
      const verified = deepFreeze({ scope: mintScope(tenantId, environment, 'envelope'), signed });
      cache.set(cacheKey, { verified, key });
      if (cache.size > cacheSize) {
        const oldest = cache.keys().next();
        if (!oldest.done) cache.delete(oldest.value);
      }
      return verified;
    },
  };
}

/** By the only protected header that each key's proofs can have, so that no header is interpreted before it is believed. */
function trustedKeys(jwks: JSONWebKeySet): ReadonlyMap<string, TrustedKey> {
  const parsed = EnvelopeJwks.safeParse(jwks);
  if (!parsed.success) {
    const mistakes = parsed.error.issues
      .map((issue) => `${issue.path.join('.')}: ${issue.message}`)
      .join('; ');
    throw new TypeError(
      `the envelope key set holds something else than Ed25519 public keys with ids (${mistakes})`,
    );
  }
  const keys = new Map<string, TrustedKey>();
  for (const { kid, kty, crv, x, nbf, exp } of parsed.data.keys satisfies EnvelopePublicKey[]) {
    const header = protectedHeader(kid);
    if (keys.has(header)) throw new TypeError(`the envelope key set holds two keys of id ${kid}`);
    const key = createPublicKey({ key: { kty, crv, x }, format: 'jwk' });
    keys.set(header, { kid, notBefore: nbf ?? 0, expires: exp ?? Number.POSITIVE_INFINITY, key });
  }
  return keys;
}

function textOf(candidate: unknown): string {
  if (candidate === undefined || candidate === null) throw new EnvelopeRejected('missing');
  let text: string | undefined;
  try {
    text = JSON.stringify(candidate);
  } catch {
    throw new EnvelopeRejected('malformed', 'it has no JSON form');
  }
  if (text === undefined) throw new EnvelopeRejected('malformed', 'it has no JSON form');
  if (text.length > MAX_TEXT) throw new EnvelopeRejected('oversized');
  return text;
}

function parse(text: string): SignedEnvelope {
  const parsed = SignedEnvelope.safeParse(JSON.parse(text));
  if (parsed.success) return parsed.data;
  // Paths only: a value could be anything, and messages end up in histories.
  const where = [...new Set(parsed.error.issues.map((issue) => issue.path.join('.') || 'the whole'))].join(
    ', ',
  );
  throw new EnvelopeRejected('malformed', `wrong at: ${where.slice(0, 200)}`);
}

function requireTime(key: TrustedKey, nowMs: number): void {
  if (nowMs / 1_000 < key.notBefore) throw new EnvelopeRejected('key_not_yet_valid', `key ${key.kid}`);
  if (nowMs / 1_000 >= key.expires) throw new EnvelopeRejected('key_expired', `key ${key.kid}`);
}

async function requireSignature(signed: SignedEnvelope, key: TrustedKey): Promise<void> {
  // Base64url has spare bits at its end: one spelling, so that no other text proves the same.
  const { signature } = signed.proof;
  if (Buffer.from(signature, 'base64url').toString('base64url') !== signature)
    throw new EnvelopeRejected('bad_signature');
  const payload = Buffer.from(canonicalJson(signed.envelope), 'utf8').toString('base64url');
  try {
    await flattenedVerify({ ...signed.proof, payload }, key.key, { algorithms: [ENVELOPE_ALGORITHM] });
  } catch (error) {
    if (error instanceof errors.JOSEError) throw new EnvelopeRejected('bad_signature');
    throw error;
  }
}

function requireBinding({ envelope }: SignedEnvelope, workflowId: string, environment: Environment): void {
  if (envelope.workflowId !== workflowId) throw new EnvelopeRejected('other_workflow');
  if (envelope.environment !== environment) throw new EnvelopeRejected('other_environment');
  const mismatch = bindingMismatch(envelope);
  if (mismatch) throw new EnvelopeRejected('contradicts_workflow_id', mismatch);
}

function deepFreeze<T extends object>(value: T): T {
  for (const child of Object.values(value))
    if (typeof child === 'object' && child !== null) deepFreeze(child as object);
  return Object.freeze(value);
}
