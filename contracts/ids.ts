import { z } from 'zod';

/**
 * Identifiers. Alphabets are restricted so that no two distinct ids can look, sort or join alike: ids are
 * parts of workflow ids, task queue names and database keys, where `a:b`+`c` must never read as `a`+`b:c`.
 */
export const TenantId = z
  .string()
  .regex(/^[a-z0-9][a-z0-9-]{0,39}$/, 'a tenant id is 1 to 40 of a-z, 0-9 and -')
  .brand<'TenantId'>();
export type TenantId = z.infer<typeof TenantId>;

/** An environment is a Temporal namespace: `prod`, `staging`, … */
export const Environment = z
  .string()
  .regex(/^[a-z0-9][a-z0-9-]{1,15}$/, 'an environment is 2 to 16 of a-z, 0-9 and -')
  .brand<'Environment'>();
export type Environment = z.infer<typeof Environment>;

export const WorkspaceId = z
  .string()
  .regex(/^[a-z0-9][a-z0-9-]{0,39}$/, 'a workspace id is 1 to 40 of a-z, 0-9 and -')
  .brand<'WorkspaceId'>();
export type WorkspaceId = z.infer<typeof WorkspaceId>;

export const AgentId = z
  .string()
  .regex(/^[a-z][a-z0-9_]{0,63}$/, 'an agent id is 1 to 64 of a-z, 0-9 and _, a letter first')
  .brand<'AgentId'>();
export type AgentId = z.infer<typeof AgentId>;

/** The first 12 hex digits of the digest of an agent's definition: another prompt is another version. */
export const AgentVersion = z
  .string()
  .regex(/^[0-9a-f]{12}$/, 'an agent version is 12 hex digits')
  .brand<'AgentVersion'>();
export type AgentVersion = z.infer<typeof AgentVersion>;

export const RunId = z
  .string()
  .regex(/^[a-z0-9][a-z0-9-]{0,63}$/, 'a run id is 1 to 64 of a-z, 0-9 and -')
  .brand<'RunId'>();
export type RunId = z.infer<typeof RunId>;

/** `noun.verb`, as authors and policies write it. */
export const ActionName = z
  .string()
  .regex(/^[a-z][a-z0-9_]{0,31}(\.[a-z][a-z0-9_]{0,31}){1,2}$/, 'an action is noun.verb, of a-z, 0-9 and _')
  .brand<'ActionName'>();
export type ActionName = z.infer<typeof ActionName>;

/** An external system by the tenant's own name for it: `helpdesk`, `payments`, a model provider. */
export const SystemName = z
  .string()
  .regex(/^[a-z][a-z0-9_-]{0,39}$/, 'a system is 1 to 40 of a-z, 0-9, _ and -, a letter first')
  .brand<'SystemName'>();
export type SystemName = z.infer<typeof SystemName>;

/** What a secret is for, never the secret: `payments:refund`. */
export const Capability = z
  .string()
  .regex(/^[a-z][a-z0-9_-]{0,39}:[a-z][a-z0-9_-]{0,39}$/, 'a capability is system:verb')
  .brand<'Capability'>();
export type Capability = z.infer<typeof Capability>;

/** What a token's bearer may decide; policies name the people who approve by it. */
export const Role = z
  .string()
  .regex(/^[a-z][a-z0-9_-]{0,63}$/, 'a role is 1 to 64 of a-z, 0-9, _ and -, a letter first');

/** sha256, hex. */
export const Digest = z
  .string()
  .regex(/^[0-9a-f]{64}$/, 'a digest is 64 hex digits')
  .brand<'Digest'>();
export type Digest = z.infer<typeof Digest>;
