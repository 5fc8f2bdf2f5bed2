import type { Client } from '@temporalio/client';
import type { Action } from '../../contracts/action';
import type { Agent } from '../../contracts/agent';
import type { Environment, TenantId } from '../../contracts/ids';
import type { JournalEntry } from '../../contracts/ledger';
import type { OperatorStore } from '../../contracts/platform-ports';
import type { Storage } from '../../contracts/ports';
import type { RunRow } from '../../contracts/rows';
import type { RecoveryAnswer } from '../../contracts/recovery';
import type { TenantScope } from '../../contracts/scope';
import type { BulkheadClient } from '../bulkhead';
import type { DevIssuer } from '../dev-issuer';

/** What `BULKHEAD_APP` brings. */
export interface CliApp {
  readonly actions: ReadonlyMap<string, Action>;
  readonly agents: ReadonlyMap<string, Agent>;
}

/** A run's histories beside today's workflows, and beside its journal. */
export interface ReplayReport {
  readonly runId: string;
  /** Today's workflows make the same commands from the same history. */
  readonly replays: boolean;
  /** Where they do not: what the first difference is. */
  readonly because: string | null;
  /** Executions replayed: of the run, with those it continued, and of its follow-ups. */
  readonly histories: number;
  readonly events: number;
  readonly calls: readonly {
    readonly path: string;
    readonly action: string;
    /** What the history says that the call answered, and what the journal says; `-` where one has nothing of it. */
    readonly history: string;
    readonly journal: string;
    readonly agrees: boolean;
  }[];
}

/** What recomputing the chain of a journal says. */
export interface JournalCheck {
  /** The first entry whose link does not hold; `undefined` where all do. */
  readonly broken: string | undefined;
  /** Numbers that a restore of the database took with it, as the recovery after it has recorded. No break: they are told. */
  readonly lost: readonly { readonly first: number; readonly last: number }[];
}

/**
 * What commands work on, opened when first asked for: a command that needs no database opens none.
 * Each opener throws an error that names the setting to set. `workers/main.ts` makes it.
 */
export interface CliRuntime {
  readonly environment: Environment;
  /** What a person types to reach this Temporal by hand. */
  readonly temporalHint: string;
  /** The token that the environment gives (BULKHEAD_TOKEN). */
  readonly bearer: string | undefined;
  bulkhead(): Promise<BulkheadClient>;
  storage(): Promise<Storage>;
  operator(): Promise<OperatorStore>;
  temporal(): Promise<Client>;
  app(): Promise<CliApp | undefined>;
  /** Replays the histories of a run against the workflows of this version. Whoever asks has been shown the run before. */
  replay(run: RunRow): Promise<ReplayReport>;
  /** Puts back what histories know of a tenant whose ledger was restored from a backup. */
  recover(request: {
    tenantId: TenantId;
    app: CliApp;
    dryRun: boolean;
    actor: string;
    marginMs: number;
    say: (line: string) => void;
  }): Promise<RecoveryAnswer>;
  /** The development issuer, where this stack has its key. */
  devIssuer(): DevIssuer | undefined;
  /** An operator's scope: whoever can reach the database with the operator's address is one. */
  operatorScope(tenantId: TenantId): TenantScope;
  migrate(onStep: (step: string) => void): Promise<{ applied: number; version: number }>;
  /** Recomputes the chain of a whole journal. */
  checkJournal(scope: TenantScope, entries: readonly JournalEntry[]): JournalCheck;
  close(): Promise<void>;
}

/** The process around a command. Tests give their own. */
export interface CliContext {
  open(environment: string | undefined): CliRuntime;
  /** Standard output: what was asked for, and nothing else. */
  write(text: string): void;
  /** Standard error: progress and errors. */
  say(text: string): void;
  /** All of standard input; `undefined` where it is a terminal. */
  stdin(): Promise<string | undefined>;
  readonly user: string;
  readonly signal: AbortSignal;
}
