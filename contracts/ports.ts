import type { RecordRef } from './action';
import type { Agent } from './agent';
import type { ApprovalStore, DecisionStore } from './approvals';
import type { Breaker, Trouble } from './breakers';
import type { StoredPayload } from './calls';
import type { TenantRecord } from './documents';
import type { RunId } from './ids';
import type { Admission, AdmitRequest, JournalEntry, SettleRequest, Settlement } from './ledger';
import type { EntryPage, RunPage } from './lists';
import type { PlatformStore, TenantLane } from './platform-ports';
import type { QuotaState, RepeatedRefusal } from './quotas';
import type { RecoveryStore } from './recovery';
import type { Refusal } from './refusal';
import type {
  DeadLetter,
  FollowUp,
  ResolveReview,
  ReviewAnswer,
  ReviewRow,
  UndoItem,
  UndoOutcome,
} from './reviews';
import type {
  AcceptRun,
  Acceptance,
  CallContext,
  CallRow,
  Entry,
  Handed,
  MarkedPassage,
  RetryAnswer,
  RunRow,
  StandingInLine,
  StoredItem,
  UndoOrder,
} from './rows';
import type { TenantScope } from './scope';
import type { RunState, StopReason } from './states';
import type { ControlState } from './workflow-io';

/** Ports of storage. Times are ISO strings of the database's clock. Everything tenant-scoped hangs on a handle. */

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
  runs(page: RunPage): Promise<RunRow[]>;
  /** Calls of the run (or of the whole tenant below an epoch) that may still act. */
  claimedCalls(filter: { runId?: RunId; beforeEpoch?: number }): Promise<number>;
  /** One call as the ledger has it. */
  call(runId: string, path: string): Promise<CallRow | undefined>;

  // what waits for a person
  reviews(page: EntryPage): Promise<ReviewRow[]>;
  review(reviewNo: number): Promise<ReviewRow | undefined>;
  resolveReview(request: ResolveReview): Promise<ReviewAnswer>;
  /** Of systems that have failed since they last answered: those that let nothing through first. */
  breakers(): Promise<Breaker[]>;
  /** Counts for the breaker what a call that stays claimed has met. Changes nothing where another attempt has taken the call over. */
  trouble(of: Trouble): Promise<void>;

  deadLetters(page: EntryPage): Promise<DeadLetter[]>;
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
  /**
   * In order of position, `input` first, and without what undoing brought, which is nobody's answer to the model. Rejects with
   * `ConversationTooLarge` where it has more bytes than `mostBytes` (default: `MAX_CONVERSATION_BYTES`), unread.
   */
  conversation(runId: RunId, mostBytes?: number): Promise<StoredItem[]>;
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
  /** Keeps a document, in the place of the one of its id. Refused (`memory_bytes`) where it does not fit; throws without a tenant. */
  putKnowledge(document: {
    documentId: string;
    title: string;
    text: string;
  }): Promise<{ kind: 'kept' } | { kind: 'refused'; refusal: Refusal }>;
  /** Forgets a document, and frees its bytes. Answers whether there was one: again changes nothing. */
  removeKnowledge(documentId: string): Promise<boolean>;

  // control
  control(): Promise<ControlState | undefined>;
  /** For a ledger that was restored from a backup. */
  readonly recovery: RecoveryStore;
  kill(command: { reason: string; actor: string }): Promise<ControlState>;
  release(command: { reason: string; actor: string }): Promise<ControlState>;
  revokeLeases(): Promise<number>;
  markContained(fenceEpoch: number): Promise<ControlState>;
  markDrained(fenceEpoch: number): Promise<ControlState>;
  /**
   * Runs not closed, the oldest first; with an epoch, only those accepted before that fence, so that a release in between spares
   * new ones.
   */
  openRuns(limit: number, only?: { beforeEpoch?: number; state?: RunState }): Promise<RunRow[]>;
}

export interface Storage {
  tenant(scope: TenantScope): TenantStore;
  readonly platform: PlatformStore;
  close(): Promise<void>;
}
