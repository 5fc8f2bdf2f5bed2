import type { ApprovalRow, SuggestionRow } from '../contracts/approvals';
import type { Refusal } from '../contracts/refusal';
import type { FollowUp, ReviewRow } from '../contracts/reviews';
import type { RunState, StopReason } from '../contracts/states';

/** What `bulkhead up --example <name>` hands to an example product: the public surface, and processes of its own. */
export interface ExampleContext {
  /** Where the example keeps what must survive a restart. */
  readonly stateDir: string;
  readonly environment: string;
  /** Chosen model provider, if the operator named one; else the example brings its scripted one. */
  readonly model: (tenant: string) => { baseUrl: string; apiKey: string; name: string } | undefined;
  /**
   * Starts a compiled module as a process of its own. Resolves once it printed `{"url": "http://127.0.0.1:…"}` as a
   * line on standard output; it is ended with the stack.
   */
  spawn(name: string, modulePath: string, env: Record<string, string>): Promise<{ pid: number; url: string }>;
  /** Applies QuotaClass, Tenant and PolicyProfile documents (YAML, several to a text). Throws on any mistake, with its line. */
  apply(yaml: string): Promise<void>;
  putCredential(tenant: string, capability: string, secret: string): Promise<void>;
  /** Throws where a document does not fit the tenant's memory. */
  putKnowledge(
    tenant: string,
    documents: { documentId: string; title: string; text: string }[],
  ): Promise<void>;
  /** The same key and body answer the same run, also after a restart. Throws where the run is refused. */
  startRun(request: ExampleRun): Promise<{ runId: string }>;
  /** Resolves when the run is closed. */
  waitRun(tenant: string, runId: string): Promise<RunReport>;
  runs(tenant: string): Promise<RunReport[]>;
  /** Refusals in the run's journal, oldest first. */
  refusals(tenant: string, runId: string): Promise<{ action: string; refusal: Refusal }[]>;
  /** The tenant's writes by its journal, undo among them, the oldest first. */
  writes(tenant: string): Promise<JournaledWrite[]>;
  /** What waits for a person. */
  openReviews(tenant: string): Promise<ReviewRow[]>;
  /** Undo and retries that were ordered for a run. */
  followUps(tenant: string, runId: string): Promise<FollowUp[]>;
  /** Calls that wait for a person to approve them, the newest first. */
  openApprovals(tenant: string): Promise<ApprovalRow[]>;
  /** Decides one of them as this person, with a token that says so. Throws where the person may not, or no longer. */
  decide(tenant: string, decision: ExampleDecision): Promise<void>;
  /** What calls of the run suggested and did not do, in the order of the calls. */
  suggestions(tenant: string, runId: string): Promise<SuggestionRow[]>;
  /**
   * `bulkhead …` beside the running stack, as a person types it: its exit code, and all that it printed. Without a token the
   * command makes one for itself where it needs one.
   */
  command(
    words: readonly string[],
    as?: { readonly who: string; readonly token: string },
  ): Promise<{ code: number; output: string }>;
  /** The processes around, to be hurt. */
  readonly machine: ExampleMachine;
  /** `temporal workflow signal` to the tenant's control workflow, as an operator types it. */
  signalControl(tenant: string, name: 'kill' | 'release', argument?: unknown): Promise<void>;
  controlState(
    tenant: string,
  ): Promise<{ mode: string; fencedAt: string | null; containedAt: string | null; drainedAt: string | null }>;
  /** One line to the person who watches. */
  say(line: string): void;
}

/** What a person of an example says of a call that waits. */
export interface ExampleDecision {
  readonly approvalNo: number;
  readonly decision: 'approve' | 'deny';
  readonly note: string;
  readonly person: { readonly subject: string; readonly roles: readonly string[] };
}

/** A write as the journal tells it. */
export interface JournaledWrite {
  readonly runId: string;
  /** Its position; ends with `/undo` where it undoes the write before that. */
  readonly path: string;
  readonly action: string;
  /** What the system outside was given as `Idempotency-Key`. */
  readonly key: string;
  /** ISO, of the database's clock: its first admission. */
  readonly admittedAt: string;
  /** How often it was let in, to be made or to be recovered. */
  readonly attempts: number;
  readonly state: 'claimed' | 'succeeded' | 'failed' | 'open' | 'unknown';
}

/** What a scenario may do to the processes of the stack. All of them are started again, and said so, by whoever keeps them. */
export interface ExampleMachine {
  /** Worker processes that run now. */
  workers(): { name: string; pid: number }[];
  /** SIGKILL to exactly this process; `false` where it is gone already. */
  killWorker(worker: { name: string; pid: number }): boolean;
  /** Whether PostgreSQL is the stack's own, to be stopped here. */
  readonly ownsDatabase: boolean;
  /** An immediate stop of it: no checkpoint, no goodbye. Answers the process, `undefined` where none runs. */
  stopDatabaseAtOnce(): number | undefined;
  /** Ends a process that was started with `spawn`; it may be started again. */
  endSystem(name: string): Promise<void>;
}

export interface ExampleRun {
  readonly tenant: string;
  readonly workspace: string;
  readonly agent: string;
  readonly input: unknown;
  readonly target: { system: string; recordId: string };
  readonly idempotencyKey: string;
}

export interface RunReport {
  readonly runId: string;
  readonly state: RunState;
  readonly stopReason: StopReason | null;
  readonly steps: number;
  readonly toolCalls: number;
  readonly refusals: number;
  readonly spentMicroUsd: number;
  readonly acceptedAt: string;
  readonly closedAt: string | null;
}

/** A row of the table that `--once` prints; the process exits 0 only if every `ok` holds. */
export interface ScenarioRow {
  readonly run: string;
  readonly tenant: string;
  readonly state: string;
  readonly stopReason: string;
  readonly expected: string;
  readonly calls: number;
  readonly spendMicroUsd: number;
  readonly ok: boolean;
  /** What was wrong, or what the scenario checked beside the stop reason. */
  readonly note: string;
}

/** An example product: an app, its world outside, and scenarios that are promises watched live. */
export interface Example {
  readonly name: string;
  /** Module (absolute path) that exports `app`, for the workers. */
  readonly appModule: string;
  /** Brings up its systems, tenants, policies, credentials; called at every start, so it is idempotent. */
  start(context: ExampleContext): Promise<void>;
  /** `main` is what `npm start` runs. */
  readonly scenarios: Readonly<Record<string, (context: ExampleContext) => Promise<ScenarioRow[]>>>;
}
