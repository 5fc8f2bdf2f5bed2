import { SignJWT, importJWK, type JWK } from 'jose';
import { z } from 'zod';
import { Environment, Role, TenantId, WorkspaceId } from '../contracts/ids';

const SUBJECT = 'a subject is 1 to 200 characters';
const TTL = 'a token lives from 1s to 24h';

/** Whom a development token speaks for. */
export const DevTokenRequest = z.strictObject({
  tenant: TenantId,
  environment: Environment,
  workspaces: z.array(WorkspaceId).min(1),
  roles: z.array(Role).max(100).default([]),
  subject: z.string().min(1, SUBJECT).max(200, SUBJECT),
  kind: z.enum(['user', 'service']).default('user'),
  /** Seconds; an hour by default, a day at most: these tokens cannot be revoked. */
  ttlSeconds: z.int().min(1, TTL).max(86_400, TTL).default(3_600),
});
export type DevTokenRequest = z.input<typeof DevTokenRequest>;

export interface DevIssuer {
  /** A signed bearer JWT. Throws a ZodError for a request that names no possible tenant, environment, workspace or role. */
  token(request: DevTokenRequest): Promise<string>;
}

/**
 * The issuer behind `bulkhead token`: for development and tests, where no identity provider is. It makes a token for
 * anyone who can read its key, so a deployment with customers configures their issuer and has no such key.
 */
export function createDevIssuer(config: {
  signingKey: JWK;
  issuer: string;
  audience: string;
  now?: () => number;
}): DevIssuer {
  const { kid } = config.signingKey;
  if (!kid || !config.signingKey.d)
    throw new TypeError('the development issuer needs a private JWK with a key id');
  const now = config.now ?? Date.now;
  return {
    async token(candidate) {
      const request = DevTokenRequest.parse(candidate);
      const seconds = Math.floor(now() / 1_000);
      return new SignJWT({
        'bulkhead:tenant': request.tenant,
        'bulkhead:environment': request.environment,
        'bulkhead:workspaces': request.workspaces,
        'bulkhead:roles': request.roles,
        'bulkhead:kind': request.kind,
      })
        .setProtectedHeader({ alg: 'EdDSA', kid, typ: 'JWT' })
        .setIssuer(config.issuer)
        .setAudience(config.audience)
        .setSubject(request.subject)
        .setIssuedAt(seconds)
        .setExpirationTime(seconds + request.ttlSeconds)
        .sign(await importJWK(config.signingKey, 'EdDSA'));
    },
  };
}
