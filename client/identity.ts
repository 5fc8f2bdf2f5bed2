import { readFileSync } from 'node:fs';
import {
  createLocalJWKSet,
  createRemoteJWKSet,
  errors,
  jwtVerify,
  type JSONWebKeySet,
  type JWTPayload,
  type JWTVerifyGetKey,
  type JWTVerifyResult,
} from 'jose';
import { z } from 'zod';
import type { Principal } from '../contracts/envelope';
import { Environment, Role, TenantId, WorkspaceId } from '../contracts/ids';
import type { TenantScope } from '../contracts/scope';
import { mintScope } from '../contracts/scope-mint';
import { BulkheadError } from './errors';
import { isStorableText } from './json-bounds';

/** Whose tokens are believed, for what, and under which keys. */
export interface IdentityConfig {
  readonly issuer: string;
  readonly audience: string;
  /** The issuer's public keys: fetched and cached, read once, or given. */
  readonly keys: { readonly url: string } | { readonly file: string } | { readonly jwks: JSONWebKeySet };
  /** Seconds that clocks may differ; 5 by default, at most 60. */
  readonly clockToleranceSeconds?: number;
}

/** Who a verified token speaks for. The scope comes from here and from nowhere else in a request. */
export interface VerifiedPrincipal {
  readonly scope: TenantScope;
  readonly principal: Principal;
  readonly workspaces: readonly WorkspaceId[];
  readonly roles: readonly string[];
}

export interface TokenVerifier {
  /** Rejects with a {@link BulkheadError} of code `unauthenticated`, or `unavailable` where the keys cannot be had. */
  verify(token: string | undefined): Promise<VerifiedPrincipal>;
}

/** Signatures with a public key only: a shared secret, or none, would let anyone who verifies also issue. */
const ALGORITHMS = [
  'EdDSA',
  'Ed25519',
  'ES256',
  'ES384',
  'ES512',
  'PS256',
  'PS384',
  'PS512',
  'RS256',
  'RS384',
  'RS512',
];

/** Access tokens (RFC 9068) and plain ones; an envelope's or any other kind of JWS is no token. */
const TOKEN_TYPES = [undefined, 'JWT', 'at+jwt'];

const MAX_TOKEN = 16_384;

/** Claims that bind a token to one tenant, environment and set of workspaces. All are required. */
export const TokenClaims = z.object({
  sub: z.string().min(1).max(200).refine(isStorableText, 'has a character that cannot be stored'),
  iat: z.number(),
  exp: z.number(),
  'bulkhead:tenant': TenantId,
  'bulkhead:environment': Environment,
  'bulkhead:workspaces': z.array(WorkspaceId).min(1).max(1_000),
  'bulkhead:roles': z.array(Role).max(100),
  'bulkhead:kind': z.enum(['user', 'service']),
});
export type TokenClaims = z.infer<typeof TokenClaims>;

/**
 * Verifies bearer JWTs for one environment: signature, issuer, audience, times, and the claims that bind it to a
 * tenant. Throws a TypeError at once for keys that are none, or private, or shared secrets.
 */
export function createTokenVerifier(
  config: IdentityConfig & { environment: string; now?: () => number },
): TokenVerifier {
  const environment = Environment.parse(config.environment);
  const tolerance = z
    .number()
    .min(0)
    .max(60)
    .parse(config.clockToleranceSeconds ?? 5);
  const { issuer, audience } = z
    .object({ issuer: z.string().min(1), audience: z.string().min(1) })
    .parse(config);
  const now = config.now ?? Date.now;
  const key = keySource(config.keys);

  const claimsOf = async (token: string): Promise<JWTPayload> => {
    const under = (source: JWTVerifyGetKey): Promise<JWTVerifyResult> =>
      jwtVerify(token, source, {
        issuer,
        audience,
        algorithms: ALGORITHMS,
        clockTolerance: tolerance,
        currentDate: new Date(now()),
        requiredClaims: ['sub', 'iat', 'exp'],
      });
    const { payload, protectedHeader } = await under(key).catch((error: unknown) => {
      if (error instanceof errors.JWKSMultipleMatchingKeys) return underAny(error, under);
      throw error;
    });
    if (!TOKEN_TYPES.includes(protectedHeader.typ))
      throw unauthenticated('malformed', 'this is a signature, but not a token', config);
    return payload;
  };

  return {
    async verify(token) {
      if (token === undefined || token === '')
        throw unauthenticated('missing', 'no token came with the request', config);
      if (token.length > MAX_TOKEN) throw unauthenticated('malformed', 'the token is too long', config);
      const claims = await claimsOf(token).catch((error: unknown) => {
        throw explained(error, config);
      });
      const parsed = TokenClaims.safeParse(claims);
      if (!parsed.success) {
        const wrong = parsed.error.issues
          .map((issue) => `${String(issue.path[0])} (${issue.message})`)
          .join(', ');
        throw unauthenticated('claims', `the token’s claims do not say whom it is for: ${wrong}`, config);
      }
      const { sub, iat, ...rest } = parsed.data;
      if (iat > now() / 1_000 + tolerance)
        throw unauthenticated('not_yet_valid', 'the token was issued in the future', config);
      if (rest['bulkhead:environment'] !== environment) {
        throw unauthenticated(
          'other_environment',
          `the token is for environment ${rest['bulkhead:environment']}, this is ${environment}`,
          config,
        );
      }
      return Object.freeze({
        scope: mintScope(rest['bulkhead:tenant'], environment, 'token'),
        principal: { kind: rest['bulkhead:kind'], subject: sub },
        workspaces: rest['bulkhead:workspaces'],
        roles: rest['bulkhead:roles'],
      });
    },
  };
}

function keySource(keys: IdentityConfig['keys']): JWTVerifyGetKey {
  if ('url' in keys)
    return createRemoteJWKSet(new URL(keys.url), { timeoutDuration: 5_000, cooldownDuration: 5_000 });
  const jwks: unknown = 'file' in keys ? JSON.parse(readFileSync(keys.file, 'utf8')) : keys.jwks;
  const parsed = z.object({ keys: z.array(z.looseObject({ kty: z.string() })).min(1) }).safeParse(jwks);
  if (!parsed.success)
    throw new TypeError('the issuer’s keys are no JWKS: give {"keys": [ … ]} of public keys');
  if (parsed.data.keys.some((one) => one.kty === 'oct' || 'd' in one)) {
    throw new TypeError('the issuer’s keys hold a private key or a shared secret: give public keys only');
  }
  return createLocalJWKSet({ keys: parsed.data.keys });
}

/**
 * Verifies under each of the keys that a token may be signed with: one without a key id says only of which type its key is, and an
 * issuer that changes its key publishes two. What is not the signature's fault is the answer.
 */
async function underAny(
  keys: errors.JWKSMultipleMatchingKeys,
  under: (source: JWTVerifyGetKey) => Promise<JWTVerifyResult>,
): Promise<JWTVerifyResult> {
  let failed: unknown = new errors.JWKSNoMatchingKey();
  for await (const key of keys) {
    try {
      return await under(() => key);
    } catch (error) {
      if (!(error instanceof errors.JWSSignatureVerificationFailed)) throw error;
      failed = error;
    }
  }
  throw failed;
}

function unauthenticated(reason: string, what: string, { issuer, audience }: IdentityConfig): BulkheadError {
  return new BulkheadError(
    'unauthenticated',
    `${what}: bring a fresh token of issuer ${issuer} for audience ${audience} (\`bulkhead token\` on a development stack)`,
    { reason },
  );
}

/** Names what was wrong with a token, without repeating any of it. */
function explained(error: unknown, config: IdentityConfig): BulkheadError {
  if (error instanceof BulkheadError) return error;
  const refuse = (reason: string, what: string): BulkheadError => unauthenticated(reason, what, config);
  if (error instanceof errors.JWTExpired) return refuse('expired', 'the token has expired');
  if (error instanceof errors.JWTClaimValidationFailed) {
    if (error.reason === 'missing') return refuse('claims', `the token lacks the claim ${error.claim}`);
    if (error.claim === 'iss') return refuse('wrong_issuer', 'the token is of another issuer');
    if (error.claim === 'aud') return refuse('wrong_audience', 'the token is for another audience');
    if (error.claim === 'nbf') return refuse('not_yet_valid', 'the token is not valid yet; check the clocks');
    return refuse('claims', `the token’s claim ${error.claim} is wrong`);
  }
  if (error instanceof errors.JWSSignatureVerificationFailed)
    return refuse('bad_signature', 'the token was altered or signed by someone else');
  if (error instanceof errors.JOSEAlgNotAllowed)
    return refuse('wrong_algorithm', 'the token is unsigned, or signed with a shared secret');
  if (error instanceof errors.JWKSNoMatchingKey) {
    return refuse('unknown_key', 'the token is signed with a key that the issuer does not publish');
  }
  if (error instanceof errors.JWSInvalid || error instanceof errors.JWTInvalid)
    return refuse('malformed', 'this is no signed token');
  if (error instanceof errors.JOSENotSupported)
    return refuse('wrong_algorithm', 'the token is signed in a way that is not accepted');
  return new BulkheadError(
    'unavailable',
    'the issuer’s keys cannot be fetched, so no token can be checked: see that its JWKS address answers',
    { reason: 'issuer_keys', cause: error },
  );
}
