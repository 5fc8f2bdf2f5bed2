import type { Agent } from './agent';
import type {
  CallCapacityDocument,
  Lane,
  ProviderPoolDocument,
  QuotaClassDocument,
  TenantDocument,
  TenantRecord,
} from './documents';
import type { SignedEnvelope } from './envelope';
import type { Environment, RunId, TenantId } from './ids';
import type { DividePool } from './pools';
import type { QuotaChange, QuotaOf } from './quotas';
import type { SeenHead } from './recovery';
import type { FollowUpKind } from './reviews';
import type { Handed } from './rows';
import type { TenantScope } from './scope';

/** Ports of what concerns the platform or its operators. Times are ISO strings of the database's clock. */

/** One row of the placement table: which lanes a host has to serve. */
export interface Placement {
  readonly tenantId: TenantId;
  readonly lane: Lane;
  readonly workerCeiling: number;
  readonly expensiveCeiling: number;
}

/** Where a tenant's calls go now, and whether anybody takes them there. */
export interface TenantLane {
  readonly lane: Lane;
  readonly weight: number;
  readonly workerCeiling: number;
  readonly expensiveCeiling: number;
  /** Hosts that serve it and have renewed their row of late. */
  readonly hosts: number;
}

/** What hosts poll, all tenants of the environment in one query. */
export interface ControlVersion {
  readonly tenantId: TenantId;
  readonly fenceEpoch: number;
  readonly controlVersion: number;
  readonly mode: string;
}

export interface SweepRun {
  readonly tenantId: TenantId;
  readonly runId: RunId;
  readonly workflowId: string;
  readonly temporalRunId: string | null;
  readonly signed: SignedEnvelope;
}

export interface SweepFollowUp {
  readonly tenantId: TenantId;
  readonly runId: RunId;
  readonly followUpNo: number;
  readonly kind: FollowUpKind;
  readonly signed: SignedEnvelope;
}

/** A run that was given a slot, and has not come for it. */
export interface SlotNotTaken extends SweepRun {
  readonly slotSince: string;
}

/** Told of a tenant that is left out for a while: its row is held, or something of it fails. */
export type OnSkipped = (tenantId: TenantId, error: unknown) => void;

/** The platform's own view, across tenants of one environment: narrow functions, no payload. */
export interface PlatformStore {
  /** Divides every provider pool and shared capacity anew; `false` where another host is at it. */
  dividePools(divide: DividePool): Promise<boolean>;
  placements(): Promise<Placement[]>;
  controlVersions(): Promise<ControlVersion[]>;
  /** Where each tenant's journal ends, as far as it is on disk. */
  journalHeads(): Promise<SeenHead[]>;
  /** Those of the heads that their journals do not hold any more, of tenants not yet fenced for it. */
  lostHeads(heads: readonly SeenHead[]): Promise<SeenHead[]>;
  heartbeatHost(host: { hostId: string; pid: number; roles: string[] }): Promise<void>;
  acceptedNotStarted(olderThanMs: number, limit: number): Promise<SweepRun[]>;
  /** Up to half of them hold a slot; the rest are any. */
  openRunsIdle(olderThanMs: number, limit: number): Promise<SweepRun[]>;
  /** Runs that have held a slot for so long and have not come for it; those asked often are listed ever more rarely. */
  slotsNotTaken(olderThanMs: number, limit: number): Promise<SlotNotTaken[]>;
  /** Runs that have waited for their first slot for longer than they may; listed as rarely. */
  queuedTooLong(limit: number): Promise<{ workflowId: string }[]>;
  /** Hands over what is free of tenants' slots, counts those anew that are not what their runs say, and answers who has a slot for it. */
  tendLines(onSkipped?: OnSkipped): Promise<Handed>;
  /** Ordered, not done, and last touched so long ago. */
  followUpsWaiting(olderThanMs: number, limit: number): Promise<SweepFollowUp[]>;
  /** Ends the leases of hosts that have not renewed their row for so long; answers how many. */
  endLeasesOfDeadHosts(silentMs: number, onSkipped?: OnSkipped): Promise<number>;
  /**
   * Forgets what is kept of runs older than the purge horizon: a portion of so many positions (calls, and what was asked of those that
   * were refused), and more of them for as long as `goOn` says so. Answers how many positions.
   */
  purge(limit: number, goOn?: () => boolean, onSkipped?: OnSkipped): Promise<number>;
  /** Settles reads and model calls whose lease is over as lost, writes without any way to know as unknown. */
  reapCalls(limit: number, onSkipped?: OnSkipped): Promise<number>;
  publishAgent(agent: Agent): Promise<void>;
}

/** One version of a profile, as it was published. */
export interface PolicyVersion {
  readonly version: number;
  readonly publishedAt: string;
  readonly actor: string;
  readonly reason: string;
  readonly environments: readonly Environment[];
  /** How many tenants, of all environments, it is in force for. */
  readonly tenants: number;
}

/** What tenants' documents name: it is put before them. */
export type NamedByTenants = CallCapacityDocument | ProviderPoolDocument | QuotaClassDocument;

/** What operators change. Each act is one transaction, journaled with the actor. */
export interface OperatorStore {
  /** Creates the pool, or changes its capacity; its tenants' shares follow within a second. */
  putProviderPool(document: ProviderPoolDocument, actor: string): Promise<void>;
  /** Creates the shared capacity, or changes it; its tenants' shares follow within a second. */
  putCallCapacity(document: CallCapacityDocument, actor: string): Promise<void>;
  putQuotaClass(document: QuotaClassDocument, actor: string): Promise<void>;
  /**
   * Throws where the tenant's document names a quota class, pool or shared capacity that neither exists nor is `beside` it,
   * to be put first. Puts nothing.
   */
  checkTenant(document: TenantDocument, beside: readonly NamedByTenants[]): Promise<void>;
  /** Creates or updates the tenant in every environment it names, one transaction each; refuses names that are not known before the first. */
  putTenant(document: TenantDocument, actor: string): Promise<{ created: boolean }>;
  /** The next version of the profile, brought into force tenant by tenant, one transaction each; the same text keeps its version. */
  publishPolicy(
    profile: { name: string; environments: Environment[]; text: string },
    actor: string,
    reason: string,
  ): Promise<{ version: number; tenants: number }>;
  /** The newest first. */
  policyHistory(profile: string): Promise<PolicyVersion[]>;
  /** What was published as this version of the profile. */
  policyPublished(
    profile: string,
    version: number,
  ): Promise<{ environments: Environment[]; text: string } | undefined>;
  putCredential(
    scope: TenantScope,
    capability: string,
    secret: string,
    actor: string,
  ): Promise<{ version: number }>;
  tenants(): Promise<TenantRecord[]>;
  /**
   * Sets limits of one tenant alone, over those of its class; in force for the next call, of running runs too. Throws a RangeError
   * where a limit or value cannot be.
   */
  setQuota(scope: TenantScope, of: QuotaOf, changes: readonly QuotaChange[], actor: string): Promise<void>;
}
