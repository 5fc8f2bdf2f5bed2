import { performance } from 'node:perf_hooks';
import { BREAKER_OPEN } from '../contracts/breakers';
import type { AdmitRequest } from '../contracts/ledger';
import type { ControlVersion } from '../contracts/platform-ports';
import type { TenantStore } from '../contracts/ports';
import type { RepeatedRefusal } from '../contracts/quotas';
import type { Refusal } from '../contracts/refusal';

/** How long a refusal is believed: what frees meanwhile, and a limit that is raised, is noticed after at most so long. */
const BELIEVED_MS = 1_000;
const FLUSH_MS = 1_000;
/** So long after it is believed no more, one asks first and the others hear what it was told. */
const FADES_MS = 1_000;

/** What of a call decides which limits concern it. */
export type AskedFor = Pick<
  AdmitRequest,
  'runId' | 'action' | 'callClass' | 'system' | 'reserve' | 'leaseMs'
> & {
  /** Of the run at the root; `null` where that is not known here. */
  readonly agentId: string | null;
};

interface Remembered {
  readonly refusal: Refusal;
  readonly asked: AskedFor;
  /** Monotonic, as the next. */
  readonly askedAt: number;
  until: number;
  /** Under way to the ledger since then, for all who ask meanwhile. */
  asks?: Promise<void>;
}
interface Counted {
  readonly store: TenantStore;
  /** Each as it was answered the last time, and when that was: it frees at the moment that the ledger said, whenever that is told. */
  readonly refusals: Map<string, { readonly told: RepeatedRefusal; readonly at: number }>;
}

/**
 * Refusals that this host was told a moment ago, so that who asks again at once is answered here and the tenant's row in the
 * ledger, which every call of the tenant has to lock, is left alone. Only limits that free, shares, and open breakers; only to calls that
 * ask for at least as much of the same; for a second at most, no longer than until it frees, and not beyond a change of the
 * tenant's limits or mode. What was answered so is counted, and told to the ledger once a second: a host that dies forgets at
 * most one second's worth of counts, and nothing else.
 */
export class RememberedRefusals {
  private readonly known = new Map<string, Map<string, Remembered>>();
  private readonly versions = new Map<string, number>();
  private counted = new Map<string, Counted>();
  private flushing: Promise<void> = Promise.resolve();
  private readonly timer: NodeJS.Timeout;

  constructor(private readonly settings: { now?: () => number; onError?: (error: unknown) => void } = {}) {
    this.timer = setInterval(() => void this.flush(), FLUSH_MS);
    this.timer.unref();
  }

  /** Takes note of a refusal by the ledger. `askedAt`: monotonic, from before the ledger was asked. */
  remember(store: TenantStore, asked: AskedFor, refusal: Refusal, askedAt: number): void {
    const { retryAfterMs, rule } = refusal;
    if (retryAfterMs === undefined || measureOf(refusal, asked) === undefined) return;
    const { tenantId } = store.scope;
    const known = this.known.get(tenantId) ?? new Map<string, Remembered>();
    this.known.set(tenantId, known);
    const key = `${rule} ${subjectOf(refusal, asked)}`;
    const before = known.get(key);
    // What was refused to a call that asked for less says more, and is not made to last.
    if (before && before.until > this.now() && concerns(before.refusal, before.asked, asked)) return;
    known.set(key, { refusal, asked, askedAt, until: askedAt + Math.min(retryAfterMs, BELIEVED_MS) });
  }

  /**
   * The refusal that this call would meet, and for how long that is believed, milliseconds; of those that free within
   * `longestMs`. Whoever answers with it counts it `asOfNow`: what frees at a moment frees so much sooner since it was told.
   */
  find(
    store: TenantStore,
    asked: AskedFor,
    longestMs: number,
  ): { refusal: Refusal; asOfNow: Refusal; forMs: number } | undefined {
    const known = this.known.get(store.scope.tenantId) ?? new Map<string, Remembered>();
    const now = this.now();
    for (const [key, { refusal, asked: before, askedAt, until }] of known) {
      const forMs = until - now;
      if (forMs <= -FADES_MS) known.delete(key);
      if (forMs > 0 && (refusal.retryAfterMs ?? 0) <= longestMs && concerns(refusal, before, asked))
        return { refusal, asOfNow: later(refusal, now - askedAt), forMs };
    }
    return undefined;
  }

  /** Counts a refusal that was answered from here. */
  count(
    store: TenantStore,
    { runId, action }: Pick<AskedFor, 'runId' | 'action'>,
    refusal: Refusal,
    count = 1,
  ): void {
    const { tenantId } = store.scope;
    const counted: Counted = this.counted.get(tenantId) ?? { store, refusals: new Map() };
    this.counted.set(tenantId, counted);
    const key = [refusal.rule, refusal.policyVersion, refusal.kind, action, runId].join(' ');
    const sum = (counted.refusals.get(key)?.told.count ?? 0) + count;
    counted.refusals.set(key, { told: { runId, action, refusal, count: sum }, at: this.now() });
  }

  /**
   * Before the ledger is asked again after a refusal that is believed no more: one asks first. It says so with `answered`
   * when it was; everybody else waits for `others`, and looks again. `undefined` where nothing was refused of late.
   */
  begin(
    store: TenantStore,
    asked: AskedFor,
  ): { others: Promise<void> } | { answered: () => void } | undefined {
    const { tenantId } = store.scope;
    for (const [key, entry] of this.known.get(tenantId) ?? []) {
      if (entry.until > this.now() || !concerns(entry.refusal, entry.asked, asked)) continue;
      if (entry.asks) return { others: entry.asks };
      let resolve = (): void => undefined;
      entry.asks = new Promise((done) => (resolve = done));
      const answered = (): void => {
        if (this.known.get(tenantId)?.get(key) === entry) this.known.get(tenantId)?.delete(key);
        resolve();
      };
      return { answered };
    }
    return undefined;
  }

  /** A call of the tenant is over, so that a place among those in flight may be free. */
  settled({ scope }: TenantStore): void {
    const now = this.now();
    for (const entry of this.known.get(scope.tenantId)?.values() ?? [])
      if (layerOf(entry.refusal.rule) === 'calls_in_flight') entry.until = Math.min(entry.until, now);
  }

  /** A system has answered a call of the tenant: what its breaker said before is over. */
  answered({ scope }: TenantStore, system: string): void {
    const known = this.known.get(scope.tenantId);
    for (const [key, { refusal, asked }] of known ?? [])
      if (refusal.rule === BREAKER_OPEN && asked.system === system) known?.delete(key);
  }

  /** Forgets what is known of tenants whose limits, policy or mode have changed since the last look. */
  controlsSeen(versions: readonly ControlVersion[]): void {
    for (const { tenantId, controlVersion } of versions) {
      if (this.versions.get(tenantId) !== controlVersion) this.known.delete(tenantId);
      this.versions.set(tenantId, controlVersion);
    }
  }

  /** Tells the ledger what was counted. What it cannot be told now is told the next time. */
  flush(): Promise<void> {
    this.flushing = this.flushing.then(async () => {
      const counted = this.counted;
      this.counted = new Map();
      for (const { store, refusals } of counted.values()) {
        const now = this.now();
        const told = [...refusals.values()].map((each) => ({
          ...each.told,
          refusal: later(each.told.refusal, now - each.at),
        }));
        try {
          await store.countRefusals(told);
        } catch (error) {
          this.settings.onError?.(error);
          for (const { runId, action, refusal, count } of told)
            this.count(store, { runId, action }, refusal, count);
        }
      }
    });
    return this.flushing;
  }

  /** Tells the ledger the last counts. */
  async stop(): Promise<void> {
    clearInterval(this.timer);
    await this.flush();
  }

  private now(): number {
    return (this.settings.now ?? (() => performance.now()))();
  }
}

/** The same refusal so much later: it frees so much sooner. */
const later = (refusal: Refusal, ms: number): Refusal =>
  refusal.retryAfterMs === undefined
    ? refusal
    : { ...refusal, retryAfterMs: Math.max(0, Math.round(refusal.retryAfterMs - ms)) };

const SHARED = 'shared_capacity/';
const layerOf = (rule: string): string => rule.slice(rule.lastIndexOf('/') + 1);

/** How much a call asks of what each limit counts. */
const MEASURES: Readonly<Record<string, (asked: AskedFor) => number>> = {
  calls_in_flight: () => 1,
  calls_per_minute: ({ reserve }) => reserve.steps + reserve.toolCalls,
  model_tokens_per_minute: ({ reserve }) => reserve.modelTokens,
  model_tokens_per_day: ({ reserve }) => reserve.modelTokens,
  tool_calls_per_day: ({ reserve }) => reserve.toolCalls,
  steps_per_day: ({ reserve }) => reserve.steps,
  active_seconds_per_day: ({ leaseMs }) => leaseMs,
  spend_micro_usd_per_day: ({ reserve }) => reserve.microUsd,
  high_risk_writes_per_day: ({ callClass }) => (callClass === 'high_risk_write' ? 1 : 0),
};

/** What a call asks of the limit that refused; `undefined` for a refusal that is not to be remembered. */
function measureOf({ rule, origin, kind }: Refusal, asked: AskedFor): number | undefined {
  if (rule === BREAKER_OPEN) return asked.system === null ? undefined : 1;
  // A share of the platform's capacity grows by itself: believed until it is to be asked for again, half a second, and no longer.
  const limit = origin === 'tenant_cap' || rule.startsWith(SHARED);
  const measure = limit && kind === 'throttled' ? MEASURES[layerOf(rule)] : undefined;
  return measure?.(asked);
}

/** Whose limit or breaker it is: the tenant's own, an action's, an agent's, a system's. */
function subjectOf({ rule }: Refusal, asked: AskedFor): string {
  if (rule === BREAKER_OPEN) return asked.system ?? '';
  if (rule.startsWith('action:')) return asked.action;
  return rule.startsWith('agent:') ? (asked.agentId ?? '') : '';
}

/** Whether what was refused to one call is refused to another: of the same subject, and asking for no less. */
function concerns(refusal: Refusal, before: AskedFor, asked: AskedFor): boolean {
  const measure = measureOf(refusal, asked) ?? 0;
  if (refusal.rule.startsWith('agent:') && asked.agentId === null) return false;
  return (
    subjectOf(refusal, asked) === subjectOf(refusal, before) &&
    measure > 0 &&
    measure >= (measureOf(refusal, before) ?? 0)
  );
}
