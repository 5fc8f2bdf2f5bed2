import type { CallAnswer, ModelStep, Position } from './calls';
import type { SignedEnvelope } from './envelope';
import type { Refusal } from './refusal';
import type { UndoItem, UndoOutcome } from './reviews';
import type { StopReason } from './states';

/** Inputs and results of workflows, and the activities they call. Types alone: safe in the sandbox. */

/** Input of `agentRun`. `carry` is set by continue-as-new only. */
export interface AgentRunInput {
  readonly signed: SignedEnvelope;
  readonly carry?: AgentRunCarry;
}
export interface AgentRunCarry {
  /** The next step of the loop. */
  readonly step: number;
  /** Highest journal sequence this run has been told: a head below it is a rewound ledger. */
  readonly seq: number;
  readonly generation: number;
  readonly usage: Usage;
  /** Model answers in a row, so far, without one usable call. */
  readonly misbehaved?: number;
  /** Calls of the last step, and in how many steps in a row each was asked for to the same end. */
  readonly repeated?: readonly Repeated[];
}
/** Digest of the call, its outcome, steps in a row. */
export type Repeated = readonly [digest: string, outcome: string, times: number];
export interface Usage {
  readonly modelCalls: number;
  readonly toolCalls: number;
  readonly refusals: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
}
/** What `agentRun` returns when it completes; other endings are a failure with the stop reason as its type. */
export interface AgentRunResult {
  readonly stopReason: StopReason;
  /** Position whose stored model step is the run's last word. */
  readonly outputRef: string | null;
  readonly usage: Usage;
}

/** Where calls go, as the tenant's placement said when it was asked. */
export interface CallLane {
  readonly queues: { readonly calls: string; readonly expensive: string };
  /** Of the tenant's tasks in a queue that it shares. */
  readonly weight: number;
  /** A call that no worker has taken after so long is looked after: it is scheduled again where the tenant then is. */
  readonly takenWithinMs: number;
}

/** Answer to the question who takes the calls of a queue. */
export interface FoundLane {
  readonly lane: CallLane;
  /** Why no worker has taken a call yet; `null` where the tenant's calls go elsewhere by now. */
  readonly refusal: Refusal | null;
  /** Whether there is anybody to take it: where not, the call is not even scheduled until there is. */
  readonly served: boolean;
}

/** After `free` refusals by policy in a row, a pause before each further call. */
export interface ToldPace {
  readonly free: number;
  readonly pauseMs: number;
}

export interface Entered {
  readonly kind: 'entered';
  /** The task queue that this run's calls go to; for histories of before `lane`. */
  readonly queue: string;
  readonly lane?: CallLane;
  /** Actions of the agent whose calls go to the queue of expensive ones. */
  readonly expensive?: readonly string[];
  readonly maxSteps: number;
  /** Steps after which the run continues as new; a setting. */
  readonly continueAsNewAfter: number;
  /** How long a run waits on a limit before it ends as `budget_exceeded`. */
  readonly maxWaitMs: number;
  /** After this many model answers in a row without one usable call or a final text, `model_misbehaved`. */
  readonly maxMisbehaviour: number;
  /** After the same call to the same end in so many steps in a row, `model_misbehaved`. Absent: never. */
  readonly maxRepeats?: number;
  /** So many calls of the run are on their lane at a time; the others wait in its workflow. Absent: all that it asks for. */
  readonly callsAtOnce?: number;
  /** Of a run whose calls policy refuses one after the other. Absent: it makes them as fast as it asks for them. */
  readonly refusalPace?: ToldPace;
  /** How long a run waits for a person's review before it ends with what is known. */
  readonly maxReviewWaitMs?: number;
  /** The first step of a run that was forked; the ones before it are copies of another run's. */
  readonly firstStep?: number;
  /** The agent asks that a failed run's writes are undone. */
  readonly undoOnFailure?: boolean;
  /** It gives its slot up while it waits for a person. Histories of before slots say nothing. */
  readonly parks?: boolean;
  readonly seq: number;
}

/** Answer to a run that stands in line for a slot: it is signalled once it has one, and asks again. */
export interface Queued {
  readonly kind: 'queued';
  /** The limit that binds. */
  readonly refusal: Refusal;
  /** `null` beyond a thousand. */
  readonly position: number | null;
  readonly waiting: number;
  readonly seq: number;
}

/** A person whom a run waits for, holding no slot. */
export type WaitForPerson =
  | { readonly state: 'approval_required'; readonly approvalNo: number }
  | { readonly state: 'review_required'; readonly reviewNo: number }
  | { readonly state: 'frozen' };

/** What an undo, or a retried call, works with. */
export interface FollowUpEntered {
  readonly kind: 'entered';
  readonly followUpNo: number;
  readonly queue: string;
  readonly lane?: CallLane;
  /** Actions whose calls go to the queue of expensive ones: those of its items, or of its call. */
  readonly expensive?: readonly string[];
  readonly maxWaitMs: number;
  /** Of an undo: forward writes, the newest first. Of a retry: empty. */
  readonly items: readonly UndoItem[];
  /** Of a retry: the call. */
  readonly path: string | null;
  /** What is called there. */
  readonly action?: string;
  readonly seq: number;
}
/** Input of the workflows that do a follow-up. The number is that of the workflow's id. */
export interface FollowUpInput {
  readonly signed: SignedEnvelope;
  readonly followUpNo: number;
}

/** Activities of a run. Each is refused unless the header carries the envelope of the very workflow that calls. */
export interface RunActivities {
  enterRun(input: {
    generation: number;
    previousTemporalRunId: string | null;
  }): Promise<Entered | Queued | { kind: 'refused'; refusal: Refusal; stopReason: StopReason }>;
  /** Gives up the slot of a run that waits for a person. */
  parkRun(wait: WaitForPerson): Promise<void>;
  /**
   * Takes a slot again: `waits` while the person has not decided, and then it took none. `goesOn` also where nothing is to be
   * had any more, for the next call says why.
   */
  resumeRun(
    wait: WaitForPerson,
  ): Promise<
    Queued | { kind: 'waits'; expiresInMs: number | null; seq: number } | { kind: 'goesOn'; seq: number }
  >;
  /** Frees the slot once no call of the run is claimed any more. Answers the first stop reason recorded. */
  leaveRun(input: { stopReason: StopReason; outputRef: string | null }): Promise<{ stopReason: StopReason }>;
  /** Orders the undo of this run's own writes and lets the calling workflow do it; `nothing` where none can be undone. */
  beginUndo(input: { reason: 'failed' }): Promise<FollowUpEntered | { kind: 'nothing' }>;
  callModel(input: { position: Position; seq: number }): Promise<CallAnswer<ModelStep>>;
  /** Runs the `index`-th tool call that the model asked for at `source`. */
  callTool(input: {
    position: Position;
    source: Position;
    index: number;
    seq: number;
  }): Promise<CallAnswer<null>>;
}

/** Activities of a follow-up's workflow, and of the run that undoes its own writes. */
export interface FollowUpActivities {
  enterFollowUp(input: {
    followUpNo: number;
  }): Promise<FollowUpEntered | { kind: 'refused'; refusal: Refusal }>;
  leaveFollowUp(input: { followUpNo: number; outcome: UndoOutcome | null }): Promise<void>;
  /**
   * Where the tenant's calls go now, for a call that nobody took from `queue` in time. With `untilServed` it answers once
   * somebody serves them there, and waits in place until then.
   */
  findLane(input: { queue: string; untilServed: boolean }): Promise<FoundLane>;
  /**
   * Undoes the write at `path`, after its own outcome is known: a governed call with a key of its own. `done`: undone, now or
   * before. Rules of `NOT_UNDONE`: nothing was to be done. With a `review`, of the write or of its undo, whose `wait` is
   * always true: ask again once it is resolved.
   */
  undoCall(input: { followUpNo: number; path: string; seq: number }): Promise<CallAnswer<null>>;
  /** Makes the call at `path` once more, under its own key. */
  retryCall(input: { followUpNo: number; path: string; seq: number }): Promise<CallAnswer<null>>;
}

export interface ControlScope {
  readonly kind: 'tenant';
  /** Where it is said, it has to be the tenant whose control is asked. */
  readonly id?: string;
}
export interface ControlCommand {
  readonly op: 'kill' | 'release';
  readonly scope: ControlScope;
  readonly reason: string;
  readonly actor: string;
  /** Asked for, and not there yet: the kill is applied as without it, and its state says so. */
  readonly hard?: true;
  /** Why it must not be applied, in words. Histories of before it was noticed have applied such commands: so it is told, not dropped. */
  readonly unclear?: string;
}
/** Where a tenant's control stands. Times are ISO, of the database's clock. */
export interface ControlState {
  readonly mode: string;
  readonly fenceEpoch: number;
  readonly fencedAt: string | null;
  readonly containedAt: string | null;
  readonly drainedAt: string | null;
  readonly reason: string | null;
  readonly actor: string | null;
  /** What was asked for beside the act and is not given. */
  readonly notes?: readonly string[];
}

/** The state after the commands, and those of them that were not applied: by their index, and why. */
export interface AppliedControl extends ControlState {
  readonly refused?: readonly { readonly index: number; readonly why: string }[];
}

/** Activities of `tenantControl`. The tenant is the one of the calling workflow's id, never an argument. */
export interface ControlActivities {
  loadControl(): Promise<ControlState>;
  /**
   * Applies commands in order, kills first, one transaction each. One that must not or cannot be applied keeps no other from it.
   * Returns the state after them.
   */
  applyControl(input: { commands: ControlCommand[] }): Promise<AppliedControl>;
  /** Returns once no call of an epoch before `fenceEpoch` can act any more. Heartbeats with the number left. */
  awaitContained(input: { fenceEpoch: number }): Promise<ControlState>;
  /** Signals `killRun` to every open run, terminates what is open after the grace, closes the rows. */
  drainRuns(input: { fenceEpoch: number }): Promise<ControlState>;
}

/** Activities of the sweep, across tenants of the environment; each is idempotent and bounded. */
export interface SweepActivities {
  startAccepted(): Promise<{ started: number }>;
  closeGone(): Promise<{ closed: number }>;
  reapCalls(): Promise<{ reaped: number }>;
  ensureControls(): Promise<{ started: number }>;
  /** Starts follow-ups that were ordered and have no workflow. */
  startFollowUps(): Promise<{ started: number }>;
  /** Tells runs that hold a slot and do not know, or have stood in line for too long; counts slots and lines anew. */
  tendQueues(): Promise<{ told: number }>;
  /** Deletes what keys beyond the purge horizon have left. */
  purge(): Promise<{ purged: number }>;
}

/** Tenant, sequence, beginning of the hash, acknowledged sequence: see `SeenHead`. */
export type PackedHead = readonly [tenantId: string, seq: number, hash: string, acknowledged: number];

/** Also of the sweep: where journals ended is kept in its results, outside the database. */
export interface HeadActivities {
  /** Fences tenants whose journal has lost the head that it had; answers the heads of now. */
  checkHeads(input: { lastHeads: readonly PackedHead[] }): Promise<{ rewound: number; heads: PackedHead[] }>;
}

export const SIGNALS = {
  killRun: 'killRun',
  cancelRun: 'cancelRun',
  wakeRun: 'wakeRun',
  /** A review was resolved: a hint, the ledger decides. */
  reviewDecided: 'reviewDecided',
  /** An approval was decided: a hint, the ledger decides. */
  approvalDecided: 'approvalDecided',
  kill: 'kill',
  release: 'release',
} as const;
export const QUERIES = { runState: 'runState', controlState: 'controlState' } as const;
