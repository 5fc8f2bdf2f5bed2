import { z } from 'zod';
import { ModelName } from './agent';
import { ActionName, AgentId, Environment, SystemName, TenantId, WorkspaceId } from './ids';

/** The platform's and tenants' documents (YAML, kind by kind). PolicyProfile lives in `policy/`, with its compiler. */

const DocumentName = z
  .string()
  .regex(/^[a-z][a-z0-9_-]{0,63}$/, 'a name is 1 to 64 of a-z, 0-9, _ and -, a letter first');
const count = z.int().nonnegative();
/** Longer than anybody waits; what is added to a moment has to stay a moment. */
const YEAR_SECONDS = 366 * 86_400;

/** Layers that a tenant, one of its agents or one of its actions can be limited by; what is left out is not. Days are the tenant's. */
const LAYERS = {
  toolCallsPerDay: count,
  stepsPerDay: count,
  /** Of the time that calls were at work, as the ledger measures it. */
  activeSecondsPerDay: count,
  spendMicroUsdPerDay: count,
  modelTokensPerDay: count,
  highRiskWritesPerDay: count,
  /** A bucket that holds a minute's worth and drains as fast: at most twice as many in any one minute. */
  callsPerMinute: count.max(1_000_000),
  modelTokensPerMinute: count.max(1_000_000_000),
  callsInFlight: count.max(100_000),
};
/** Limits of one agent, or one action, of a tenant. */
export const NamedLimits = z.strictObject(LAYERS).partial();
export type NamedLimits = z.infer<typeof NamedLimits>;

/** Limits of a tenant. */
export const Limits = NamedLimits.extend({
  toolCallsPerDay: count.default(20_000),
  callsInFlight: count.max(100_000).default(8),
  /** A bucket, as `callsPerMinute` is. */
  runStartsPerMinute: count.max(1_000_000).default(600),
  /** Attempts of calls that were let in before: a bucket, too. */
  retriesPerMinute: count.max(1_000_000).default(120),
  /** Runs accepted that hold no slot yet. */
  queuedRuns: count.default(10_000),
  /** How long such a run waits for its first slot before it ends. */
  queuedSeconds: z.int().positive().max(YEAR_SECONDS).default(86_400),
  /** Slots: runs that work at the same time. One that waits for a person holds none. */
  concurrentRuns: count.max(100_000).default(50),
  /** The best priority that may be asked for, 1 going first: without more, a tenant can only put its own runs back. */
  bestPriority: z.int().min(1).max(5).default(3),
  /** Of what its runs are given, say and are told: payloads as JSON in UTF-8. */
  storageBytes: count.optional(),
  /** Of titles and texts of the documents that its agents search, as UTF-8. */
  memoryBytes: count.optional(),
});
export type Limits = z.infer<typeof Limits>;

/** Budgets of one run: what is used up ends it. */
export const PerRun = z.strictObject({
  steps: z.int().positive().max(10_000).default(50),
  /** Of the time that its calls were at work; waiting costs nothing. */
  seconds: z.int().positive().optional(),
  spendMicroUsd: count.optional(),
});
export type PerRun = z.infer<typeof PerRun>;

/** A time zone of the IANA database, as its days are counted by. */
export const TimeZone = z.string().refine((zone) => {
  try {
    return new Intl.DateTimeFormat('en', { timeZone: zone }).resolvedOptions().timeZone !== '';
  } catch {
    return false;
  }
}, 'this is no time zone of the IANA database, like Europe/Berlin');

/**
 * `own`: a task queue and worker of its own in the shared hosts. `dedicated`: worker processes of its own too. `shared`: one
 * queue and worker for a long tail of tenants, in weighted-fair order.
 */
export const Lane = z.enum(['own', 'dedicated', 'shared']);
export type Lane = z.infer<typeof Lane>;

const QuotaClassFields = z.strictObject({
  apiVersion: z.literal('bulkhead/v1'),
  kind: z.literal('QuotaClass'),
  metadata: z.strictObject({ name: DocumentName }),
  lane: Lane.default('own'),
  /** Share of a tenant on the shared lane, beside those of the others that wait there; and of what a pool or capacity has to give. */
  weight: z.int().positive().max(1_000).default(1),
  /** What a tenant has of the shared capacity that it names whenever it wants it, whatever others want. */
  guaranteed: z.strictObject({ callsInFlight: count.max(100_000).default(0) }).prefault({}),
  /** Concurrent activities of the tenant's worker, per host. On the shared lane the platform's setting holds instead. */
  workerCeiling: z.int().positive().max(1_000).default(8),
  /** The same for its expensive actions, which have a worker of their own. */
  expensiveCeiling: z.int().positive().max(1_000).default(2),
  limits: Limits.prefault({}),
  perRun: PerRun.prefault({}),
  perAction: z.record(ActionName, NamedLimits).default({}),
  perAgent: z.record(AgentId, NamedLimits).default({}),
});
export const QuotaClassDocument = QuotaClassFields.superRefine(({ guaranteed, limits }, context) => {
  if (guaranteed.callsInFlight <= limits.callsInFlight) return;
  context.addIssue({
    code: 'custom',
    path: ['guaranteed', 'callsInFlight'],
    message: `${guaranteed.callsInFlight} calls are guaranteed, and limits.callsInFlight lets in ${limits.callsInFlight}`,
    params: { remedy: 'guarantee at most what limits.callsInFlight says, or raise that' },
  });
});
export type QuotaClassDocument = z.infer<typeof QuotaClassDocument>;

const BaseUrl = z
  .url({ protocol: /^https?$/, abort: true })
  .refine((url) => !new URL(url).username && !new URL(url).password, 'a connection holds no credentials')
  .refine(
    (url) => !/[?#]/.test(url),
    'a connection has no query and no fragment: what is asked of it is joined to its path, and they would be lost',
  );

const microUsdPerMTok = z.int().nonnegative().max(1_000_000_000);
/** What a provider asks for a million tokens, in millionths of a dollar. */
export const ModelPrice = z.strictObject({
  inputMicroUsdPerMTok: microUsdPerMTok,
  outputMicroUsdPerMTok: microUsdPerMTok,
});
export type ModelPrice = z.infer<typeof ModelPrice>;

export const TenantDocument = z.strictObject({
  apiVersion: z.literal('bulkhead/v1'),
  kind: z.literal('Tenant'),
  metadata: z.strictObject({ name: TenantId }),
  environments: z
    .record(Environment, z.strictObject({ policyProfile: DocumentName, quotaClass: DocumentName }))
    .refine((environments) => Object.keys(environments).length > 0, 'name at least one environment'),
  workspaces: z.array(WorkspaceId).min(1),
  /** By which its days begin and end. */
  timeZone: TimeZone.default('UTC'),
  /** Base URL by system, model providers included. */
  connections: z.record(SystemName, BaseUrl).default({}),
  /** The accounts outside that are the tenant's. */
  scope: z.array(z.strictObject({ system: SystemName, account: z.string().min(1).max(200) })).default([]),
  /** What an agent's `provider/model` is called at the tenant's provider, where it differs. */
  models: z.record(z.string(), z.string().min(1).max(200)).default({}),
  /** Provider pools that its model calls are made from, by provider. Of any other provider it owns all its capacity. */
  pools: z.record(SystemName, DocumentName).default({}),
  /** The shared capacity that all its governed calls are made from. Without one only its own limit of calls in flight binds. */
  capacity: DocumentName.optional(),
  /** By `provider/model`, as agents name it. What has no price here costs nothing. */
  prices: z.record(ModelName, ModelPrice).default({}),
});
export type TenantDocument = z.infer<typeof TenantDocument>;

/** What one credential of a model provider can carry, in each environment by itself. Tenants share it by the weight of their class. */
export const ProviderPoolDocument = z.strictObject({
  apiVersion: z.literal('bulkhead/v1'),
  kind: z.literal('ProviderPool'),
  metadata: z.strictObject({ name: DocumentName }),
  provider: SystemName,
  callsInFlight: count.max(100_000),
  modelTokensPerMinute: count.max(1_000_000_000).optional(),
});
export type ProviderPoolDocument = z.infer<typeof ProviderPoolDocument>;

/** Governed calls at a time, of all tenants that name it, that the shared platform carries; in each environment by itself. */
export const CallCapacityDocument = z.strictObject({
  apiVersion: z.literal('bulkhead/v1'),
  kind: z.literal('CallCapacity'),
  metadata: z.strictObject({ name: DocumentName }),
  callsInFlight: count.max(100_000),
});
export type CallCapacityDocument = z.infer<typeof CallCapacityDocument>;

/** What the runtime knows of a tenant in one environment: read fresh, never carried in an envelope. */
export interface TenantRecord {
  readonly tenantId: TenantId;
  readonly environment: Environment;
  readonly policyProfile: string;
  readonly quotaClass: string;
  readonly lane: Lane;
  readonly weight: number;
  readonly workerCeiling: number;
  readonly expensiveCeiling: number;
  readonly limits: Limits;
  readonly perRun: PerRun;
  readonly perAction: Readonly<Record<string, NamedLimits>>;
  readonly perAgent: Readonly<Record<string, NamedLimits>>;
  readonly timeZone: string;
  readonly workspaces: readonly WorkspaceId[];
  readonly connections: Readonly<Record<string, string>>;
  readonly scope: readonly { readonly system: string; readonly account: string }[];
  readonly models: Readonly<Record<string, string>>;
  readonly prices: Readonly<Record<string, ModelPrice>>;
}
