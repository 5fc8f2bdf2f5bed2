import type { Client } from '@temporalio/client';
import type { Action } from '../../contracts/action';
import type { Agent } from '../../contracts/agent';
import type { Environment, TenantId } from '../../contracts/ids';
import type { JournalEntry } from '../../contracts/ledger';
import type { OperatorStore, Storage } from '../../contracts/ports';
import type { TenantScope } from '../../contracts/scope';
import type { BulkheadClient } from '../bulkhead';
import type { DevIssuer } from '../dev-issuer';

/** What `BULKHEAD_APP` brings. */
export interface CliApp {
  readonly actions: ReadonlyMap<string, Action>;
  readonly agents: ReadonlyMap<string, Agent>;
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
  /** The development issuer, where this stack has its key. */
  devIssuer(): DevIssuer | undefined;
  /** An operator's scope: whoever can reach the database with the operator's address is one. */
  operatorScope(tenantId: TenantId): TenantScope;
  migrate(onStep: (step: string) => void): Promise<{ applied: number; version: number }>;
  /** The first entry whose link in the chain does not hold; `undefined` where all do. */
  brokenLink(scope: TenantScope, entries: readonly JournalEntry[]): string | undefined;
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
