import type { Passage, RecordRef, Reversibility } from './action';
import type { Agent } from './agent';
import type { ApprovalStore, DecisionStore } from './approvals';
import type { Breaker, Trouble } from './breakers';
import type { StoredPayload } from './calls';
import type {
  Lane,
  ProviderPoolDocument,
  TenantDocument,
  QuotaClassDocument,
  TenantRecord,
} from './documents';
import type { SignedEnvelope } from './envelope';
import type { Environment, RunId, TenantId } from './ids';
import type {
  Admission,
  AdmitRequest,
  CallClass,
  DecidedBy,
  JournalEntry,
  SettleRequest,
  Settlement,
} from './ledger';
import type { QuotaChange, QuotaOf, QuotaState, RepeatedRefusal } from './quotas';
import type { DividePool } from './pools';
import type { RecoveryStore, SeenHead } from './recovery';
import type { Refusal } from './refusal';
import type {
  DeadLetter,
  FollowUp,
  FollowUpKind,
  ResolveReview,
  ReviewAnswer,
  ReviewRow,
  UndoItem,
  UndoOutcome,
} from './reviews';
import type { TenantScope } from './scope';
import type { RunState, StopReason } from './states';
import type { ControlState } from './workflow-io';

/** Ports of storage. Times are ISO strings of the database's clock. Everything tenant-scoped hangs on a handle. */

export interface RunRow {
  readonly runId: RunId;
  readonly workflowId: string;
  readonly temporalRunId: string | null;
  readonly agentId: string;
  readonly agentVersion: string;
  readonly workspaceId: string;
  readonly target: { system: string; recordId: string } | null;
  readonly state: RunState;
  readonly stopReason: StopReason | null;
  readonly acceptedAt: string;
  readonly enteredAt: string | null;
  readonly closedAt: string | null;
  readonly steps: number;
  readonly toolCalls: number;
  readonly refusals: number;
  readonly spentMicroUsd: number;
  readonly outputRef: string | null;
  /** Since when it is in its state. */
  readonly stateSince: string;
  /** 1 goes first, 5 last. */
  readonly priority: number;
  /** Since when it holds a slot of its tenant, and since when it stands in line for one: at most one of the two. */
  readonly slotSince: string | null;
  readonly queuedSince: string | null;
  readonly lastRefusal: LastRefusal | null;
}

/** What was last refused to a run, exactly: also of a flood. */
export interface LastRefusal {
  readonly at: string;
  readonly action: string;
  readonly refusal: Refusal;
}

/** Where a run stands in line for a slot. */
export interface StandingInLine {
  /** 1 is next. */
  readonly position: number;
  /** How many stand there, it included. */
  readonly waiting: number;
  /** Slots that there are, `null` without a limit, and those taken. */
  readonly value: number | null;
  readonly used: number;
}

export interface AcceptRun {
  readonly signed: SignedEnvelope;
  /** Copies what another run of the tenant knew before this step, and begins there. */
  readonly fork?: { readonly runId: RunId; readonly fromStep: number };
  /** Caller's key; same key and same body digest answers the same run, another body is refused. */
  readonly idempotencyKey: string | null;
  readonly bodyDigest: string;
  readonly input: unknown;
  /** From 1, which goes first, to 5; 3 where nobody says. */
  readonly priority?: number;
}
export type Acceptance =
  | { readonly kind: 'accepted' | 'existing'; readonly run: RunRow; readonly signed: SignedEnvelope }
  | { readonly kind: 'conflict'; readonly run: RunRow }
  | { readonly kind: 'refused'; readonly refusal: Refusal };

export type Entry =
  | {
      readonly kind: 'entered';
      readonly lane: Lane;
      readonly maxSteps: number;
      readonly firstStep: number;
      readonly seq: number;
    }
  /** It stands in line for a slot, and is told once it has one. `position` is `null` beyond a thousand. */
  | {
      readonly kind: 'queued';
      readonly refusal: Refusal;
      readonly position: number | null;
      readonly waiting: number;
      readonly seq: number;
    }
  /** What it waits for is not decided: it needs no slot yet. */
  | { readonly kind: 'waits'; readonly expiresInMs: number | null; readonly seq: number }
  | { readonly kind: 'refused'; readonly refusal: Refusal; readonly stopReason: StopReason };

/** Workflows that were given a slot by what another run did: they are to be told. */
export type Handed = readonly string[];

/** One call as the ledger has it. */
export interface CallRow {
  readonly path: string;
  readonly action: string;
  readonly digest: string;
  readonly callClass: CallClass;
  readonly state: 'claimed' | 'succeeded' | 'failed' | 'open' | 'unknown' | 'suggested';
  readonly reversible: Reversibility | null;
  readonly undoOf: string | null;
  readonly attempts: number;
  readonly reviewNo: number | null;
  readonly refusal: Refusal | null;
}

export type RetryAnswer =
  | { readonly kind: 'ordered' | 'already'; readonly followUp: FollowUp; readonly signed: SignedEnvelope }
  | { readonly kind: 'absent' }
  /** In words, what to do instead. */
  | { readonly kind: 'refused'; readonly message: string };
export type UndoOrder =
  | { readonly kind: 'ordered' | 'already'; readonly followUp: FollowUp; readonly signed: SignedEnvelope }
  | { readonly kind: 'nothing' | 'absent' | 'open' };

/** What a call is judged by and done with, in one round trip. */
export interface CallContext {
  readonly versions: DecidedBy;
  readonly facts: Readonly<Record<string, string | number | boolean>>;
  /** Classes of everything that the run has read so far. */
  readonly dataClasses: readonly string[];
  readonly record: TenantRecord;
  /** Those of the records asked about that are known to be the tenant's, with their account. */
  readonly known: readonly RecordRef[];
  /** The newest version of the credential asked for; `null` where none was asked for, put, or left unrevoked. */
  readonly sealed: SealedCredential | null;
}

/** Whose a stored context item is, as its own row says it: `null` where it says nothing. Checked where a prompt is assembled. */
export interface ContextMarker {
  readonly tenantId: string | null;
  readonly environment: string | null;
  /** `null` also for what belongs to no run, as a document does. */
  readonly runId: string | null;
}
/** A payload of a run, with the marker of its row; a fork's copies carry the fork. */
export interface StoredItem {
  readonly ref: string;
  readonly payload: StoredPayload;
  readonly marker: ContextMarker;
}
export type MarkedPassage = Passage & { readonly marker: ContextMarker };

/** Encrypted credential as stored; only the broker can open it. */
export interface SealedCredential {
  readonly capability: string;
  readonly version: number;
  readonly ciphertext: Buffer;
  /** The tenant's data key, wrapped by the key encryption key. */
  readonly wrappedKey: Buffer;
  readonly keyId: string;
}

/** Everything of one tenant in one environment, and nothing of another. Made from a {@link TenantScope} alone. */
export interface TenantStore {
  readonly scope: TenantScope;

  // ledger
  admit(request: AdmitRequest): Promise<Admission>;
  settle(request: SettleRequest): Promise<Settlement>;
  journal(page: { afterSeq: number; limit: number; runId?: RunId }): Promise<JournalEntry[]>;

  // runs
  acceptRun(request: AcceptRun): Promise<Acceptance>;
  enterRun(request: {
    runId: RunId;
    temporalRunId: string;
    previousTemporalRunId: string | null;
    generation: number;
    /** Of a run that has given its slot up: it needs none while this is open. */
    unlessOpen?: { readonly approvalNo: number } | { readonly reviewNo: number };
  }): Promise<Entry & { readonly handed: Handed }>;
  /** Gives the slot up while a person is waited for. Changes nothing for a workflow that does not work on the run. */
  parkRun(request: {
    runId: RunId;
    temporalRunId: string;
    state: 'approval_required' | 'review_required' | 'frozen';
  }): Promise<{ handed: Handed }>;
  /** `undefined` for a run that does not stand in line. */
  standingInLine(runId: RunId): Promise<StandingInLine | undefined>;
  /** Frees the slot and closes the row; answers the first stop reason ever recorded for the run. */
  leaveRun(request: {
    runId: RunId;
    temporalRunId: string | null;
    stopReason: StopReason;
    outputRef: string | null;
    /** Whether an undo is ordered with it, should the run turn out to have failed, or to be killed. */
    undo?: { readonly onFailure: boolean; readonly onKill: boolean };
  }): Promise<{ stopReason: StopReason; followUpNo?: number; handed?: Handed }>;
  run(runId: RunId): Promise<RunRow | undefined>;
  runByIdempotencyKey(key: string): Promise<RunRow | undefined>;
  runs(page: {
    limit: number;
    before?: string;
    state?: RunState;
    stopReason?: StopReason;
  }): Promise<RunRow[]>;
  /** Calls of the run (or of the whole tenant below an epoch) that may still act. */
  claimedCalls(filter: { runId?: RunId; beforeEpoch?: number }): Promise<number>;
  /** One call as the ledger has it. */
  call(runId: string, path: string): Promise<CallRow | undefined>;

  // what waits for a person
  /** The newest first. */
  reviews(page: { open: boolean; limit: number; runId?: RunId }): Promise<ReviewRow[]>;
  review(reviewNo: number): Promise<ReviewRow | undefined>;
  resolveReview(request: ResolveReview): Promise<ReviewAnswer>;
  /** Of systems that have failed since they last answered: those that let nothing through first. */
  breakers(): Promise<Breaker[]>;
  /** Counts for the breaker what a call that stays claimed has met. Changes nothing where another attempt has taken the call over. */
  trouble(of: Trouble): Promise<void>;

  /** The newest first. */
  deadLetters(page: { open: boolean; limit: number }): Promise<DeadLetter[]>;
  deadLetter(letterNo: number): Promise<DeadLetter | undefined>;
  /** Opens the call again and orders its retry. A model call is part of its run, and is refused. */
  retryDeadLetter(request: { letterNo: number; actor: string; note: string }): Promise<RetryAnswer>;
  discardDeadLetter(request: {
    letterNo: number;
    actor: string;
    note: string;
  }): Promise<'discarded' | 'already' | 'absent'>;

  /** Requests for approval, suggestions that became requests among them. */
  readonly approvals: ApprovalStore;
  readonly decisions: DecisionStore;

  // work on a run beside its own workflow
  /** Orders the undo of a closed run; an undo of it that is not done is the same order. */
  orderUndo(request: { runId: RunId; actor: string; note: string }): Promise<UndoOrder>;
  /** Orders and enters at once: the run's own workflow undoes its writes. */
  beginUndo(request: {
    runId: RunId;
    temporalRunId: string;
  }): Promise<{ kind: 'entered'; followUpNo: number; items: UndoItem[]; seq: number } | { kind: 'nothing' }>;
  enterFollowUp(request: {
    runId: RunId;
    followUpNo: number;
    temporalRunId: string;
  }): Promise<
    | { kind: 'entered'; items: UndoItem[]; path: string | null; seq: number }
    | { kind: 'refused'; refusal: Refusal }
  >;
  leaveFollowUp(request: {
    runId: RunId;
    followUpNo: number;
    temporalRunId: string;
    outcome: UndoOutcome | null;
  }): Promise<void>;
  followUps(runId: RunId): Promise<FollowUp[]>;

  // payloads: the conversation and results of a run, by position path; `input` is the caller's
  payload(runId: RunId, ref: string): Promise<StoredPayload | undefined>;
  /** In order of position, `input` first. */
  conversation(runId: RunId): Promise<StoredItem[]>;
  /** Keeps the first; a second with the same ref changes nothing. */
  putPayload(runId: RunId, ref: string, payload: StoredPayload): Promise<void>;

  // what a call is judged by
  /** `undefined` where the tenant has no ledger. */
  callContext(request: {
    runId: RunId;
    records: readonly RecordRef[];
    capability: string | null;
  }): Promise<CallContext | undefined>;
  policyText(version?: number): Promise<{ version: number; profile: string; text: string } | undefined>;
  agent(agentId: string, version?: string): Promise<Agent | undefined>;
  record(): Promise<TenantRecord | undefined>;
  /** `undefined` for a tenant that does not exist. */
  lane(): Promise<TenantLane | undefined>;

  // quotas
  /** `undefined` for a tenant without a ledger. */
  quotas(): Promise<QuotaState | undefined>;
  /** Counts refusals that a host has answered from what the ledger had told it, as if the ledger had been asked each time. */
  countRefusals(refusals: readonly RepeatedRefusal[]): Promise<void>;

  searchKnowledge(query: string, limit: number): Promise<MarkedPassage[]>;
  putKnowledge(document: { documentId: string; title: string; text: string }): Promise<void>;

  // control
  control(): Promise<ControlState | undefined>;
  /** For a ledger that was restored from a backup. */
  readonly recovery: RecoveryStore;
  kill(command: { reason: string; actor: string }): Promise<ControlState>;
  release(command: { reason: string; actor: string }): Promise<ControlState>;
  revokeLeases(): Promise<number>;
  markContained(fenceEpoch: number): Promise<ControlState>;
  markDrained(fenceEpoch: number): Promise<ControlState>;
  /** Runs not closed; with an epoch, only those accepted before it, so that a release in between spares new ones. */
  openRuns(limit: number, beforeEpoch?: number): Promise<RunRow[]>;
}

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

/** The platform's own view, across tenants of one environment: narrow functions, no payload. */
export interface PlatformStore {
  /** Divides every provider pool anew; `false` where another host is at it. */
  dividePools(divide: DividePool): Promise<boolean>;
  placements(): Promise<Placement[]>;
  controlVersions(): Promise<ControlVersion[]>;
  /** Where each tenant's journal ends, as far as it is on disk. */
  journalHeads(): Promise<SeenHead[]>;
  /** Those of the heads that their journals do not hold any more, of tenants not yet fenced for it. */
  lostHeads(heads: readonly SeenHead[]): Promise<SeenHead[]>;
  heartbeatHost(host: { hostId: string; pid: number; roles: string[] }): Promise<void>;
  acceptedNotStarted(olderThanMs: number, limit: number): Promise<SweepRun[]>;
  openRunsIdle(olderThanMs: number, limit: number): Promise<SweepRun[]>;
  /** Runs that have held a slot for so long and have not come for it; those asked often are listed ever more rarely. */
  slotsNotTaken(olderThanMs: number, limit: number): Promise<{ workflowId: string; slotSince: string }[]>;
  /** Runs that have waited for their first slot for longer than they may; listed as rarely. */
  queuedTooLong(limit: number): Promise<{ workflowId: string }[]>;
  /** Counts the slots and lines of tenants anew, hands over what is free, and answers who has a slot for it. */
  tendLines(): Promise<Handed>;
  /** Ordered, not done, and last touched so long ago. */
  followUpsWaiting(olderThanMs: number, limit: number): Promise<SweepFollowUp[]>;
  /** Ends the leases of hosts that have not renewed their row for so long; answers how many. */
  endLeasesOfDeadHosts(silentMs: number): Promise<number>;
  /** Deletes what keys older than the purge horizon have left, in small portions; answers how many calls. */
  purge(limit: number): Promise<number>;
  /** Settles reads and model calls whose lease is over as lost, writes without any way to know as unknown. */
  reapCalls(limit: number): Promise<number>;
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

/** What operators change. Each act is one transaction, journaled with the actor. */
export interface OperatorStore {
  /** Creates the pool, or changes its capacity; its tenants' shares follow within a second. */
  putProviderPool(document: ProviderPoolDocument, actor: string): Promise<void>;
  putQuotaClass(document: QuotaClassDocument, actor: string): Promise<void>;
  /** Creates or updates the tenant in every environment it names. */
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

export interface Storage {
  tenant(scope: TenantScope): TenantStore;
  readonly platform: PlatformStore;
  close(): Promise<void>;
}

/** A credential lent to one call: read at the moment of sending, useless after the lease. */
export interface CredentialLease {
  readonly leaseId: string;
  /** Throws once the lease is over or revoked. */
  authorization(): string;
}

export type Leasing =
  | { readonly kind: 'leased'; readonly lease: CredentialLease }
  | { readonly kind: 'refused'; readonly refusal: Refusal };

/** Takes a tenant's credential out for one call (promise S1). */
export interface SecretBroker {
  /**
   * Opens what the admission has lent, in memory: the ledger has the lease on record already. Refuses where there is no
   * credential, it does not open, or the admission recorded no lease of it.
   *
   * @param request.ttlMs how long from now, at most until the recorded end.
   */
  lease(request: {
    scope: TenantScope;
    capability: string;
    sealed: SealedCredential | null;
    admission: { readonly leaseId: string | null; readonly epoch: number };
    ttlMs: number;
  }): Leasing;
}

/** Verifies what travels in the header (promise E2); throws `ApplicationFailure` types of `failures.ts` via its caller. */
export interface EnvelopeVerifier {
  /** Resolves the scope that the envelope proves, for exactly this workflow id; rejects with a reason otherwise. */
  verify(signed: unknown, workflowId: string): Promise<{ scope: TenantScope; signed: SignedEnvelope }>;
}
export interface EnvelopeSigner {
  sign(envelope: SignedEnvelope['envelope']): Promise<SignedEnvelope>;
}
