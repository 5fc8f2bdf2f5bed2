import type { z } from 'zod';
import type { Envelope } from './envelope';
import type { ActionName, Capability, Digest, SystemName } from './ids';

/** `read` changes nothing outside; `write` does; `high_risk_write` moves money or cannot be taken back. */
export type Effect = 'read' | 'write' | 'high_risk_write';
export type Reversibility = 'reversible' | 'compensable' | 'final';

/** A record outside and, once known, the account there that owns it. */
export interface RecordRef {
  readonly system: string;
  readonly id: string;
  readonly account?: string | undefined;
}

/** An answer of the governed HTTP client: the body parsed where it is JSON. */
export interface HttpAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: unknown;
}

/**
 * The only way out for an action: base URL of the tenant's connection, the call's leased credential and its
 * `Idempotency-Key` already in it, destination checked against policy and at the socket, redirects of reads judged at
 * each hop and those of writes not followed, size and time bounded. A path is joined to the connection; at an address out
 * of arguments it is resolved against that address, which '' stands for. Throws `HttpRefused` (3xx, 4xx, not retried),
 * `HttpUnavailable` (nothing or 5xx came back), `HttpForbidden` (not sent there) or `HttpNotSent` (surely nothing left
 * this machine).
 */
export interface GovernedHttp {
  get(path: string): Promise<HttpAnswer>;
  post(path: string, body: unknown): Promise<HttpAnswer>;
  put(path: string, body: unknown): Promise<HttpAnswer>;
  patch(path: string, body: unknown): Promise<HttpAnswer>;
}

/** A passage found in the tenant's own knowledge base. */
export interface Passage {
  readonly documentId: string;
  readonly title: string;
  readonly text: string;
  readonly score: number;
}

/** What an action gets beside its arguments. It never sees a credential or another tenant. */
export interface ActionContext {
  readonly envelope: Envelope;
  readonly http: GovernedHttp;
  readonly knowledge: { search(query: string, limit: number): Promise<Passage[]> };
  readonly idempotencyKey: string;
  readonly signal: AbortSignal;
}

/** What a look-up after a lost answer can say. */
export type Reconciled<R> = { happened: true; result: R } | 'absent' | 'unknown';

/** Primitive values that rules can read: facts of a run, attributes of a call. */
export type Attribute = string | number | boolean;

/**
 * A tool as its author declares it, one file each. An unknown field of `args`, at any depth, is an error; one of `result` is left out.
 * Numbers that rules compare are integers (Cedar has no fractions).
 */
export interface ActionSpec<A extends z.ZodObject = z.ZodObject, R extends z.ZodType = z.ZodType> {
  name: string;
  /** Shown to models. */
  description: string;
  effect: Effect;
  args: A;
  result: R;
  /** The tenant's connection that it calls; `null` for one that stays inside (knowledge search, a classifier). */
  system: string | null;
  /** Capability of the credential it needs. */
  secret?: string;
  /** Where it goes, if an argument says so and not the connection. */
  destination?: (args: z.infer<A>) => string;
  /**
   * The records it touches. Asked before the call without a result: each must be known to be the tenant's. Asked
   * after it with one: each must name an account of the tenant's scope, and is known from then on.
   */
  records?: (args: z.infer<A>, result: z.infer<R> | undefined) => RecordRef[];
  /** Classes of the data in its arguments, by argument: a call carries those of the arguments that are present. */
  dataClasses?: Partial<Record<keyof z.infer<A> & string, string[]>>;
  /** Classes of the data in its result: from then on its run carries them into every later call (promise P3). */
  resultClasses?: string[];
  cost?: { microUsd: number };
  /**
   * The most bytes that its result has as JSON, 1 MiB where left out. So much is reserved of the tenant's storage while a call is in
   * flight. A larger result is discarded: the call fails, and of a write that may have been applied the outcome is unknown.
   */
  maxResultBytes?: number;
  /** Slow or heavy: its calls run on a lane apart, with a small ceiling, and hold up none of the tenant's others. */
  lane?: 'expensive';
  /** Of one attempt, read-back included. */
  timeout: string;
  /** The system runs a repeated `Idempotency-Key` once; for how long (default 24 h). */
  remoteHonoursKeys?: boolean;
  keyValidFor?: string;
  /** What is left of it once undone: nothing · a trace, by `compensate` · it cannot be undone. Default of a write: final. */
  reversible?: Reversibility;
  /** How soon a write shows in `reconcile` after it was sent. Without it `absent` proves nothing. */
  visibleWithin?: string;
  /** Facts of the run that its result sets, which rules read as `context.facts`. */
  facts?: { schema: z.ZodObject; from: (args: z.infer<A>, result: z.infer<R>) => Record<string, Attribute> };
  run: (ctx: ActionContext, args: z.infer<A>) => Promise<z.infer<R>>;
  reconcile?: (ctx: ActionContext, args: z.infer<A>, key: string) => Promise<Reconciled<z.infer<R>>>;
  /** Reads back after a write; `false` is a mismatch. */
  verify?: (ctx: ActionContext, args: z.infer<A>, result: z.infer<R>) => Promise<boolean>;
  compensate?: (ctx: ActionContext, args: z.infer<A>, result: z.infer<R>) => Promise<unknown>;
}

/** An action as `defineAction` has checked it; its types erased for the registry. */
export interface Action {
  readonly name: ActionName;
  readonly description: string;
  readonly effect: Effect;
  readonly args: z.ZodObject;
  readonly result: z.ZodType;
  readonly system: SystemName | null;
  readonly secret: Capability | null;
  readonly destination: ((args: unknown) => string) | null;
  readonly records: ((args: unknown, result: unknown) => RecordRef[]) | null;
  readonly dataClasses: Readonly<Record<string, readonly string[]>>;
  readonly resultClasses: readonly string[];
  readonly costMicroUsd: number;
  readonly maxResultBytes: number;
  readonly lane: 'ordinary' | 'expensive';
  readonly timeoutMs: number;
  readonly remoteHonoursKeys: boolean;
  readonly keyValidForMs: number;
  readonly reversible: Reversibility;
  /** `null`: `absent` proves nothing. */
  readonly visibleWithinMs: number | null;
  readonly facts: {
    schema: z.ZodObject;
    from: (args: unknown, result: unknown) => Record<string, Attribute>;
  } | null;
  readonly run: (ctx: ActionContext, args: unknown) => Promise<unknown>;
  readonly reconcile:
    ((ctx: ActionContext, args: unknown, key: string) => Promise<Reconciled<unknown>>) | null;
  readonly verify: ((ctx: ActionContext, args: unknown, result: unknown) => Promise<boolean>) | null;
  readonly compensate: ((ctx: ActionContext, args: unknown, result: unknown) => Promise<unknown>) | null;
  /** Of the argument schema, so that an approval or a replay can tell that it changed. */
  readonly schemaDigest: Digest;
}
