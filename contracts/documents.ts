import { z } from 'zod';
import { Environment, SystemName, TenantId, WorkspaceId } from './ids';

/** Tenant and QuotaClass documents (YAML, kind by kind). PolicyProfile lives in `policy/`, with its compiler. */

const DocumentName = z
  .string()
  .regex(/^[a-z][a-z0-9_-]{0,63}$/, 'a name is 1 to 64 of a-z, 0-9, _ and -, a letter first');
const count = z.int().nonnegative();

/** Limits of a tenant. Enforced so far: `toolCallsPerDay`, `callsInFlight`. Days are UTC. */
export const Limits = z.strictObject({
  toolCallsPerDay: count.default(20_000),
  callsInFlight: count.default(8),
});
export type Limits = z.infer<typeof Limits>;

export const PerRun = z.strictObject({ steps: z.int().positive().max(10_000).default(50) });
export type PerRun = z.infer<typeof PerRun>;

/** `own`: a task queue and worker of its own in the shared hosts. `dedicated`: worker processes of its own too. */
export const Lane = z.enum(['own', 'dedicated']);
export type Lane = z.infer<typeof Lane>;

export const QuotaClassDocument = z.strictObject({
  apiVersion: z.literal('bulkhead/v1'),
  kind: z.literal('QuotaClass'),
  metadata: z.strictObject({ name: DocumentName }),
  lane: Lane.default('own'),
  /** Concurrent activities of the tenant's worker, per host. */
  workerCeiling: z.int().positive().max(1_000).default(8),
  limits: Limits.prefault({}),
  perRun: PerRun.prefault({}),
});
export type QuotaClassDocument = z.infer<typeof QuotaClassDocument>;

const BaseUrl = z
  .url({ protocol: /^https?$/ })
  .refine((url) => !new URL(url).username, 'a connection holds no credentials');

export const TenantDocument = z.strictObject({
  apiVersion: z.literal('bulkhead/v1'),
  kind: z.literal('Tenant'),
  metadata: z.strictObject({ name: TenantId }),
  environments: z
    .record(Environment, z.strictObject({ policyProfile: DocumentName, quotaClass: DocumentName }))
    .refine((environments) => Object.keys(environments).length > 0, 'name at least one environment'),
  workspaces: z.array(WorkspaceId).min(1),
  /** Base URL by system, model providers included. */
  connections: z.record(SystemName, BaseUrl).default({}),
  /** The accounts outside that are the tenant's. */
  scope: z.array(z.strictObject({ system: SystemName, account: z.string().min(1).max(200) })).default([]),
  /** What an agent's `provider/model` is called at the tenant's provider, where it differs. */
  models: z.record(z.string(), z.string().min(1).max(200)).default({}),
});
export type TenantDocument = z.infer<typeof TenantDocument>;

/** What the runtime knows of a tenant in one environment: read fresh, never carried in an envelope. */
export interface TenantRecord {
  readonly tenantId: TenantId;
  readonly environment: Environment;
  readonly policyProfile: string;
  readonly quotaClass: string;
  readonly lane: Lane;
  readonly workerCeiling: number;
  readonly limits: Limits;
  readonly perRun: PerRun;
  readonly workspaces: readonly WorkspaceId[];
  readonly connections: Readonly<Record<string, string>>;
  readonly scope: readonly { readonly system: string; readonly account: string }[];
  readonly models: Readonly<Record<string, string>>;
}
